package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// peerHelp explains --peer.
const peerHelp = "another proxy, `name=command`; may be repeated. The command runs in a shell with {port} to listen on at {host}, {server_port}, " +
	"{database}, {user}, {password}, {pool} (server connections), {max_clients}, {userlist}, {cert}, {key} and {dir} (its own to write in) filled in, " +
	"and {config:FILE} for a copy of FILE in which the same is filled in; bench/peers has such files"

// peer is a proxy that was named on the command line.
type peer struct {
	name    string
	command string // with fields in braces
}

// parsePeer reads name=command.
func parsePeer(flag string) (peer, error) {
	name, command, found := strings.Cut(flag, "=")
	if !found || name == "" || strings.TrimSpace(command) == "" || strings.ContainsAny(name, "/ ") {
		return peer{}, errors.New("must be name=command")
	}
	return peer{name: name, command: command}, nil
}

// configField is {config:FILE} in a command.
var configField = regexp.MustCompile(`\{config:([^{}]+)\}`)

// peer starts a proxy by its command.
func (p *proxies) peer(ctx context.Context, from peer) (*target, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	command, err := p.fill(from, p.fields(port))
	if err != nil {
		return nil, err
	}
	// exec: the process that we measure must be the proxy, not its shell.
	process := proxyProcess{name: from.name, program: "/bin/sh", args: []string{"-c", "exec " + command}, port: port, dir: p.dir, account: p.account}
	t, err := process.start(ctx, p.server.password)
	if err != nil {
		return nil, err
	}
	t.version = peerVersion(ctx, command)
	return t, nil
}

// fields replaces what a peer must know, by its name in braces.
func (p *proxies) fields(port int) *strings.Replacer {
	return strings.NewReplacer(
		"{port}", strconv.Itoa(port), "{host}", loopback, "{server_port}", strconv.Itoa(p.server.manager.Port),
		"{database}", benchDatabase, "{user}", benchRole, "{password}", p.server.password,
		"{pool}", strconv.Itoa(poolSize), "{max_clients}", strconv.Itoa(maxClients),
		"{userlist}", p.path("userlist.txt"), "{cert}", p.path("proxy.crt"), "{key}", p.path("proxy.key"), "{dir}", p.dir,
	)
}

// fill writes the files that a peer's command asks for and returns the command with everything filled in.
func (p *proxies) fill(from peer, fields *strings.Replacer) (string, error) {
	var errs []error
	command := configField.ReplaceAllStringFunc(from.command, func(field string) string {
		template := configField.FindStringSubmatch(field)[1]
		text, err := os.ReadFile(template)
		if err != nil {
			errs = append(errs, fmt.Errorf("read the configuration of %s: %w", from.name, err))
			return field
		}
		path := p.path(from.name + "-" + filepath.Base(template))
		errs = append(errs, writeFor(path, fields.Replace(string(text)), p.account))
		return path
	})
	return fields.Replace(command), errors.Join(errs...)
}

// peerVersion is what the program of a command says about itself; its name when it says nothing.
func peerVersion(ctx context.Context, command string) string {
	program := strings.Fields(command)[0]
	if version, err := versionLine(ctx, program, "--version"); err == nil && version != "" {
		return version
	}
	return filepath.Base(program)
}

// directory is the directory of an absolute path within a command.
var directory = regexp.MustCompile(`(^|[\s='":])/(?:[^/\s'"{}]+/)+`)

// shownCommand is the command line as a report may show it: where this machine keeps its programs is nobody's concern.
func shownCommand(args []string) string {
	shown := []string{"go run ./bench"}
	for _, arg := range args {
		arg = directory.ReplaceAllString(arg, "$1")
		if strings.ContainsAny(arg, " {}") {
			arg = "'" + arg + "'"
		}
		shown = append(shown, arg)
	}
	return strings.Join(shown, " ")
}
