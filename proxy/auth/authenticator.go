package auth

import (
	"context"
	"fmt"
	"slices"
)

// Authenticator decides how a client must log in. It is one loaded
// configuration: immutable, for any number of goroutines, and replaced as a
// whole by a reload.
type Authenticator struct {
	cfg    Config
	method Method
	hba    *HBA   // of MethodHBA
	ident  *Ident // may be nil
	users  *Users
	mock   *Mock
}

// New reads the files that cfg names. mock is that of the Authenticator which
// this one replaces; nil makes a new one. Errors begin with the key's path or
// the file's name and hold no password.
func New(cfg Config, mock *Mock) (*Authenticator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if mock == nil {
		mock = NewMock()
	}
	a := &Authenticator{cfg: cfg, mock: mock}
	var err error
	if a.method, err = parseMethod(cfg.Method); err != nil {
		return nil, fmt.Errorf("auth.method: %w", err)
	}
	if a.method == MethodHBA {
		if a.hba, err = ParseHBA(cfg.HBAFile); err != nil {
			return nil, fmt.Errorf("auth.hba_file: %w", err)
		}
	}
	if cfg.IdentFile != "" {
		if a.ident, err = ParseIdent(cfg.IdentFile); err != nil {
			return nil, fmt.Errorf("auth.ident_file: %w", err)
		}
	}
	if err := a.checkMaps(); err != nil {
		return nil, err
	}
	configured, err := cfg.users()
	if err != nil {
		return nil, err
	}
	var listed []User
	if cfg.UsersFile != "" {
		if listed, err = ParseUserList(cfg.UsersFile); err != nil {
			return nil, fmt.Errorf("auth.users_file: %w", err)
		}
	}
	a.users = NewUsers(mock, cfg.ScramIterations, configured, listed)
	return a, nil
}

// checkMaps finds rules that name a map which does not exist: they would let
// nobody in.
func (a *Authenticator) checkMaps() error {
	if a.hba == nil {
		return nil
	}
	for _, rule := range a.hba.rules {
		if rule.Map != "" && !a.ident.Has(rule.Map) {
			return fmt.Errorf("auth.ident_file: map %q, which %s:%d names, does not exist: add it there", rule.Map, rule.File, rule.Line)
		}
	}
	return nil
}

// Mock is to be handed to the Authenticator that replaces this one.
func (a *Authenticator) Mock() *Mock { return a.mock }

// Users are the users known beforehand.
func (a *Authenticator) Users() *Users { return a.users }

// Prepare is Users.Prepare, for the start and after a reload.
func (a *Authenticator) Prepare(ctx context.Context) { a.users.Prepare(ctx) }

// IsAdmin tells whether user may do everything in the admin database.
func (a *Authenticator) IsAdmin(user string) bool { return slices.Contains(a.cfg.Admins, user) }

// IsStats tells whether user may at least read in the admin database.
func (a *Authenticator) IsStats(user string) bool {
	return a.IsAdmin(user) || slices.Contains(a.cfg.StatsUsers, user)
}

// Warnings lists users that can never log in as configured; it names no secret.
func (a *Authenticator) Warnings() []string {
	var warnings []string
	for name, user := range a.users.byName {
		switch kind := user.Secret.Kind(); {
		case a.method == MethodScram && kind == SecretMD5:
			warnings = append(warnings, fmt.Sprintf("auth: user %q has an md5 hash, which method scram-sha-256 cannot check: use method md5 or give it a SCRAM verifier", name))
		case kind == SecretNone && (a.method == MethodScram || a.method == MethodMD5 || a.method == MethodPassword):
			warnings = append(warnings, fmt.Sprintf("auth: user %q has no password, so method %s always refuses it", name, a.method))
		}
	}
	slices.Sort(warnings)
	return warnings
}

// Decision says how a connection goes on.
type Decision struct {
	// Method is one of MethodTrust and MethodCert (nothing more to prove),
	// MethodPassword, MethodMD5 and MethodScram.
	Method Method
	// Secret is what to check with: the user's own, or a made up one that the
	// user's password cannot match.
	Secret Secret
	// Known tells whether the user was found. A client must not see a difference.
	Known bool
	// Query tells that the user was not found beforehand and auth.query is to be
	// asked: the session does so and then calls MethodFor. The other fields do
	// not count yet, except Method for a trusted client or a certificate.
	Query bool
	// Rule is file:line of the HBA rule that decided, for the log; "" without.
	Rule string
}

// Method decides about a connection by what is known beforehand. Errors are
// *Error, fit for the client.
func (a *Authenticator) Method(conn Connection) (Decision, error) {
	user, known := a.users.Lookup(conn.User)
	decision, err := a.decide(conn, user.Secret, known)
	if err != nil {
		return Decision{}, err
	}
	decision.Query = !known && a.cfg.Query != ""
	return decision, nil
}

// MethodFor decides about a connection whose user auth.query was asked for.
// found tells whether it returned a row, secret is SecretFromQueryRow of it.
// Errors are *Error, fit for the client.
func (a *Authenticator) MethodFor(conn Connection, secret Secret, found bool) (Decision, error) {
	secret = secret.withSalt(a.mock.salt(conn.User), a.cfg.ScramIterations)
	return a.decide(conn, secret, found)
}

func (a *Authenticator) decide(conn Connection, secret Secret, known bool) (Decision, error) {
	method, rule, err := a.rule(conn)
	if err != nil {
		return Decision{}, err
	}
	if err := a.checkCertificate(conn, rule); err != nil {
		return Decision{}, err
	}
	decision := Decision{Method: method, Secret: secret, Known: known}
	if a.hba != nil {
		decision.Rule = fmt.Sprintf("%s:%d", rule.File, rule.Line)
	}
	switch kind := secret.Kind(); method {
	case MethodReject:
		return Decision{}, conn.rejection()
	case MethodPassword:
		if !conn.TLS && !conn.Local && !a.cfg.AllowPlainPassword {
			return Decision{}, &Error{
				Code: codeInvalidAuthorization, Message: "password authentication needs an encrypted connection",
				Hint: "Connect with sslmode=require, or let the proxy use scram-sha-256.",
			}
		}
		if kind == SecretNone {
			decision.Secret = a.mock.Secret(conn.User, a.cfg.ScramIterations)
		}
	case MethodMD5:
		// As in PostgreSQL, a verifier is checked with SCRAM under md5 too.
		switch kind {
		case SecretVerifier:
			decision.Method = MethodScram
		case SecretNone:
			decision.Secret = a.mock.Secret(conn.User, a.cfg.ScramIterations)
		}
	case MethodScram:
		if kind != SecretPlaintext && kind != SecretVerifier {
			decision.Secret = a.mock.Secret(conn.User, a.cfg.ScramIterations)
		}
	}
	return decision, nil
}

// rule finds the method, and the HBA rule it comes from.
func (a *Authenticator) rule(conn Connection) (Method, Rule, error) {
	if a.hba == nil {
		rule := Rule{Method: a.method}
		if a.method == MethodCert {
			rule.ClientCert = CertVerifyFull
		}
		return a.method, rule, nil
	}
	rule, ok := a.hba.Match(conn)
	if !ok {
		return 0, Rule{}, a.hba.Refusal(conn)
	}
	return rule.Method, rule, nil
}

// checkCertificate asks for the certificate that the rule wants.
func (a *Authenticator) checkCertificate(conn Connection, rule Rule) error {
	switch {
	case rule.ClientCert == CertNotNeeded || rule.Method == MethodReject:
		return nil
	case !conn.TLS || !conn.CertVerified:
		return &Error{Code: codeInvalidAuthorization, Message: "connection requires a valid client certificate"}
	case rule.ClientCert == CertVerifyFull && !rule.UserAllowed(a.ident, conn.CertName, conn.User):
		return &Error{Code: codeInvalidAuthorization, Message: fmt.Sprintf(`certificate authentication failed for user "%s"`, conn.User)}
	}
	return nil
}
