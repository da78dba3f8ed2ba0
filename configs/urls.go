package configs

import (
	"fmt"

	"pgtier/proxy"
	"pgtier/proxy/auth"
	"pgtier/router/topology"
)

// lookupRole finds a role as a login would: not one whose password has run out. It may be run by a superuser only,
// because nobody else may read pg_authid; for others every lookup ends as an unknown role.
const lookupRole = `SELECT rolname, CASE WHEN rolvaliduntil IS NULL OR rolvaliduntil > now() THEN rolpassword END FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin`

// FromURLs is the configuration of a proxy without a file: one shard, the database name and credentials of the
// manager's URL, and any other role looked up on the manager. listen and http replace their defaults when they are
// not ""; http "off" switches HTTP off. env is laid over the defaults and under the arguments.
func FromURLs(manager string, replicas []string, listen, http string, env []string) (*Config, error) {
	const source = "of the command line"
	s := configSchema()
	tree := map[string]any{}
	found := overlay(tree, s, env)
	if _, ok := tree["databases"]; ok {
		found = append(found, Problem{Path: "--manager", Text: "PGTIER_DATABASES_… is set too; use either, or a file"})
		delete(tree, "databases")
	}
	config, err := decode(tree)
	if err != nil {
		return nil, fmt.Errorf("decode configuration %s: %w", source, err)
	}
	if listen != "" {
		config.Proxy.Listen = []string{listen}
	}
	switch http {
	case "":
	case "off":
		config.Proxy.HTTP = ""
	default:
		config.Proxy.HTTP = http
	}
	server, err := topology.ParseURL(manager)
	switch {
	case err != nil:
		found = append(found, Problem{Path: "--manager", Text: err.Error()})
	case server.User == "":
		found = append(found, Problem{Path: "--manager", Text: "the URL names no role; write postgres://user:password@host:port/database"})
	}
	var followers []proxy.Replica
	for _, url := range replicas {
		replica, err := topology.ParseURL(url)
		if err != nil {
			found = append(found, Problem{Path: "--replica", Text: err.Error()})
		}
		followers = append(followers, proxy.Replica{URL: replica, Weight: proxy.DefaultWeight})
	}
	if len(found) == 0 {
		config.addServer(server, followers)
		for _, part := range parts(config.Validate()) {
			found = append(found, Problem{Text: part.Error()})
		}
	}
	if len(found) > 0 {
		return nil, &Error{Source: source, Problems: found}
	}
	return config, nil
}

// addServer makes server with its replicas the one shard of its database, and its role one that may log in and use the
// admin database.
func (c *Config) addServer(server topology.Server, replicas []proxy.Replica) {
	if server.Database == "" {
		server.Database = server.User // libpq's default
	}
	database := proxy.DefaultDatabase(c.Proxy.Pool)
	for i := range replicas {
		if replicas[i].URL.Database == "" {
			replicas[i].URL.Database = server.Database
		}
	}
	database.Shards = []proxy.Shard{{Name: "s0", Manager: server, Replicas: replicas}}
	c.Proxy.Databases = map[string]proxy.Database{server.Database: database}
	settings := &c.Proxy.Auth
	if !server.Password.IsZero() && !knows(settings.Users, server.User) {
		settings.Users = append(settings.Users, auth.UserConfig{Name: server.User, Password: server.Password.Reveal()})
	}
	if settings.Query == "" && settings.UsersFile == "" {
		settings.Query = lookupRole
	}
	if len(settings.Admins) == 0 {
		settings.Admins = []string{server.User}
	}
}

func knows(users []auth.UserConfig, name string) bool {
	for _, user := range users {
		if user.Name == name {
			return true
		}
	}
	return false
}
