package auth

import (
	"fmt"
	"strings"
)

// DefaultQuery is the auth_query that reads PostgreSQL's own passwords; the
// role that runs it must be allowed to read pg_authid.
const DefaultQuery = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin"

// Config is the section auth of the configuration file.
type Config struct {
	// Method every client must pass: scram-sha-256, md5, password, trust, cert,
	// or hba for one chosen by HBAFile.
	Method string `mapstructure:"method" yaml:"method"`
	// Users and the users of UsersFile (PgBouncer's userlist.txt) are known
	// beforehand; Users count first.
	Users     []UserConfig `mapstructure:"users" yaml:"users"`
	UsersFile string       `mapstructure:"users_file" yaml:"users_file"`
	// Query finds other users: its parameter $1 is the name, its row is (name,
	// secret or NULL). "" = other users do not exist.
	Query string `mapstructure:"query" yaml:"query"`
	// QueryUser and QueryDatabase run Query. "" = the role of the manager's URL,
	// and the database that the client asks for.
	QueryUser     string `mapstructure:"query_user" yaml:"query_user"`
	QueryDatabase string `mapstructure:"query_database" yaml:"query_database"`
	// HBAFile and IdentFile have the syntax of pg_hba.conf and pg_ident.conf.
	HBAFile   string `mapstructure:"hba_file" yaml:"hba_file"`
	IdentFile string `mapstructure:"ident_file" yaml:"ident_file"`
	// Admins may use the admin database, StatsUsers may read in it.
	Admins     []string `mapstructure:"admins" yaml:"admins"`
	StatsUsers []string `mapstructure:"stats_users" yaml:"stats_users"`
	// ScramIterations is the work factor for plaintext secrets of the file.
	ScramIterations int `mapstructure:"scram_iterations" yaml:"scram_iterations"`
	// AllowPlainPassword lets method password run over TCP without TLS, where
	// anybody on the way can read the password.
	AllowPlainPassword bool `mapstructure:"allow_plain_password" yaml:"allow_plain_password"`
}

// UserConfig is one entry of auth.users. Password is anything ParseSecret
// reads; it may be empty for users that no password method serves.
type UserConfig struct {
	Name     string `mapstructure:"name" yaml:"name"`
	Password string `mapstructure:"password" yaml:"password"`
}

// Format prints the user without its password, for every verb.
func (u UserConfig) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{name: %q, password: %s}", u.Name, redacted)
}

// MarshalText returns the user's name alone, so that JSON, YAML and logs show
// no password.
func (u UserConfig) MarshalText() ([]byte, error) { return []byte(u.Name), nil }

// Default is SCRAM with PostgreSQL's work factor and no users.
func Default() Config {
	return Config{Method: MethodScram.String(), ScramIterations: DefaultIterations}
}

// Validate checks what can be checked without reading files. Errors begin with
// the key's path and hold no password.
func (c *Config) Validate() error {
	method, err := parseMethod(c.Method)
	if err != nil {
		return fmt.Errorf("auth.method: %w", err)
	}
	switch {
	case method == MethodReject:
		return fmt.Errorf("auth.method: reject would let nobody in; it belongs into rules of auth.hba_file")
	case method == MethodHBA && c.HBAFile == "":
		return fmt.Errorf("auth.hba_file: method hba needs a file of rules")
	case method != MethodHBA && c.HBAFile != "":
		return fmt.Errorf("auth.hba_file: its rules would not be used: set auth.method to hba, or leave the file out")
	case c.IdentFile != "" && c.HBAFile == "":
		return fmt.Errorf("auth.ident_file: only the rules of auth.hba_file can name a map: set that too")
	case c.Query != "" && !strings.Contains(c.Query, "$1"):
		return fmt.Errorf("auth.query: it must hold the user name as $1")
	case c.Query == "" && c.QueryUser != "":
		return fmt.Errorf("auth.query_user: it has no effect without auth.query")
	case c.Query == "" && c.QueryDatabase != "":
		return fmt.Errorf("auth.query_database: it has no effect without auth.query")
	case c.ScramIterations < 1 || c.ScramIterations > maxIterations:
		return fmt.Errorf("auth.scram_iterations: must be between 1 and %d, not %d", maxIterations, c.ScramIterations)
	}
	if _, err := c.users(); err != nil {
		return err
	}
	for key, names := range map[string][]string{"admins": c.Admins, "stats_users": c.StatsUsers} {
		for i, name := range names {
			if err := checkUserName(name); err != nil {
				return fmt.Errorf("auth.%s[%d]: %w", key, i, err)
			}
		}
	}
	return nil
}

// users reads the configured users.
func (c *Config) users() ([]User, error) {
	users := make([]User, 0, len(c.Users))
	seen := map[string]bool{}
	for i, user := range c.Users {
		if err := checkUserName(user.Name); err != nil {
			return nil, fmt.Errorf("auth.users[%d].name: %w", i, err)
		}
		if seen[user.Name] {
			return nil, fmt.Errorf("auth.users[%d].name: %q stands in the list twice", i, user.Name)
		}
		seen[user.Name] = true
		secret, err := ParseSecret(user.Password)
		if err != nil {
			return nil, fmt.Errorf("auth.users[%d].password: %w", i, err)
		}
		users = append(users, User{Name: user.Name, Secret: secret})
	}
	return users, nil
}

func checkUserName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a user name is missing")
	case len(name) > maxUserName:
		return fmt.Errorf("the user name is longer than %d bytes", maxUserName)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("the user name contains a zero byte")
	}
	return nil
}
