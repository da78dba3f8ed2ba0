package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"pgtier/configs"
	"pgtier/proxy"
	"pgtier/proxy/auth"
	"pgtier/proxy/wire"
	"pgtier/router/topology"
)

// certificateNotice is how long before its end a certificate is worth a warning.
const certificateNotice = 30 * 24 * time.Hour

// verdict is what a finding comes to.
type verdict uint8

const (
	fine verdict = iota
	doubtful
	broken
)

// String returns the word that leads a finding's line.
func (v verdict) String() string { return [...]string{"ok", "warn", "FAIL"}[v] }

// report prints findings as they are made and remembers whether any is broken.
type report struct {
	out    io.Writer
	failed bool
}

// add prints one line: the verdict, what was looked at, and what was found.
func (r *report) add(v verdict, subject, format string, args ...any) {
	fmt.Fprintf(r.out, "%-4s  %s: %s\n", v, subject, fmt.Sprintf(format, args...))
	r.failed = r.failed || v == broken
}

func checkCommand() *cobra.Command {
	var file string
	command := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Validate the configuration and every server behind it",
		Long:  "Validate the configuration and every server behind it: one line a finding, exit status 1 if any fails.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usageError{errors.New("--config is missing; name the configuration file")}
			}
			r := &report{out: cmd.OutOrStdout()}
			check(cmd.Context(), r, file, os.Environ())
			if r.failed {
				return silentError{}
			}
			return nil
		},
	}
	command.Flags().StringVar(&file, "config", "", "the configuration file")
	return command
}

// check writes every finding about the configuration in file.
func check(ctx context.Context, r *report, file string, env []string) {
	config, err := configs.Load(file, env)
	if err != nil {
		var problems *configs.Error
		if !errors.As(err, &problems) {
			r.add(broken, "configuration", "%v", err)
			return
		}
		for _, problem := range problems.Problems {
			r.add(broken, file, "%s", problem)
		}
		return
	}
	r.add(fine, file, "every key is known and valid")
	checkAuth(r, config.Proxy.Auth)
	checkTLS(r, "tls.client", config.Proxy.TLS.Client)
	checkTLS(r, "tls.server", config.Proxy.TLS.Server)
	need := map[string]int{} // server connections by server address, over all databases
	for _, name := range slices.Sorted(maps.Keys(config.Proxy.Databases)) {
		database := config.Proxy.Databases[name]
		for _, shard := range database.Topology(name).Shards {
			c := serverCheck{config: config.Proxy, database: name, pool: database.Pool, server: shard.Manager, replicas: len(shard.Replicas) > 0, need: need,
				follows: database.Cache.Enabled && database.Cache.MaxDelay > 0}
			manager := checkServer(ctx, r, c)
			for _, replica := range shard.Replicas {
				if replica.User != "" && replica.User != shard.Manager.User {
					r.add(doubtful, c.subject(), "the URL of %s names the role %s, which is not used: pgtier logs in to replicas as to their manager", replica.Name, replica.User)
				}
				c.server = asProxy(replica, shard.Manager)
				checkReplica(ctx, r, c, manager, database.Reads.MaxLag)
			}
		}
		checkShards(ctx, r, config.Proxy, name)
	}
}

// checkAuth reads the files that clients are let in by.
func checkAuth(r *report, config auth.Config) {
	authenticator, err := auth.New(config, nil)
	if err != nil {
		r.add(broken, "auth", "%v", err)
		return
	}
	warnings := authenticator.Warnings()
	for _, warning := range warnings {
		r.add(doubtful, "auth", "%s", warning)
	}
	known := authenticator.Users().Len()
	switch {
	case config.Method == "trust":
		r.add(doubtful, "auth.method", "trust lets everybody in who can connect")
	case known == 0 && config.Query == "" && config.Method != "cert":
		r.add(broken, "auth", "nobody can log in: there are no users and no auth.query")
	case len(warnings) == 0:
		r.add(fine, "auth", "method %s, %d users known beforehand", config.Method, known)
	}
	if len(config.Admins) == 0 {
		r.add(doubtful, "auth.admins", "is empty: nobody may use the admin database")
	}
}

// checkTLS reads the certificates of one side.
func checkTLS(r *report, subject string, config wire.TLSConfig) {
	if config.Cert != "" {
		if _, err := config.ClientTLS(); err != nil {
			r.add(broken, subject, "%v", err)
		} else {
			checkCertificates(r, subject+".cert", config.Cert)
		}
	}
	if config.CA != "" {
		checkCertificates(r, subject+".ca", config.CA)
	}
}

// checkCertificates looks at the dates in a PEM file.
func checkCertificates(r *report, subject, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		r.add(broken, subject, "%v", err)
		return
	}
	count := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			r.add(broken, subject, "%s: %v", path, err)
			return
		}
		count++
		name, end := certificate.Subject.CommonName, certificate.NotAfter.UTC().Format(time.DateOnly)
		switch now := time.Now(); {
		case now.After(certificate.NotAfter):
			r.add(broken, subject, "%s: the certificate of %q ended on %s; renew it", path, name, end)
		case now.Before(certificate.NotBefore):
			r.add(broken, subject, "%s: the certificate of %q is not valid yet; is the clock right?", path, name)
		case now.Add(certificateNotice).After(certificate.NotAfter):
			r.add(doubtful, subject, "%s: the certificate of %q ends on %s; renew it", path, name, end)
		default:
			r.add(fine, subject, "%s: the certificate of %q is valid until %s", path, name, end)
		}
	}
	if count == 0 {
		r.add(broken, subject, "%s holds no PEM certificate", path)
	}
}

// sslParameters returns libpq's words for how the proxy would connect to server.
func sslParameters(server topology.Server, config proxy.Config) map[string]string {
	first := func(a, b string) string {
		if a != "" {
			return a
		}
		return b
	}
	return map[string]string{
		"sslmode":     first(server.TLS.Mode, config.TLS.Server.EffectiveMode()),
		"sslrootcert": first(server.TLS.RootCert, config.TLS.Server.CA),
		"sslcert":     first(server.TLS.Cert, config.TLS.Server.Cert),
		"sslkey":      first(server.TLS.Key, config.TLS.Server.Key),
	}
}
