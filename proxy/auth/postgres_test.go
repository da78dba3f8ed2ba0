package auth

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// servers is one PostgreSQL with TLS, where the role md5_user logs in by md5.
var servers = pgtest.Share(localpg.Options{TLS: true, HBA: []string{"host all md5_user 127.0.0.1/32 md5"}})

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

// exchangeLimit bounds one login of a test.
const exchangeLimit = 30 * time.Second

func manager(t testing.TB) *localpg.Server { return servers.Cluster(t).Shards[0].Manager }

// createRole makes a role; password is any text that PASSWORD takes.
func createRole(t testing.TB, name, password string, settings ...string) {
	t.Helper()
	sql := strings.Join(settings, ";") + fmt.Sprintf(`;DROP ROLE IF EXISTS %q; CREATE ROLE %q LOGIN PASSWORD '%s'`, name, name, strings.ReplaceAll(password, "'", "''"))
	if err := manager(t).Exec(t.Context(), "postgres", sql); err != nil {
		t.Fatal(err)
	}
}

// storedSecret is what pg_authid holds for a role.
func storedSecret(t testing.TB, name string) Secret {
	t.Helper()
	text, err := manager(t).Value(t.Context(), "postgres", fmt.Sprintf("SELECT rolpassword FROM pg_authid WHERE rolname = '%s'", name))
	if err != nil {
		t.Fatal(err)
	}
	return mustSecret(t, text)
}

// peer is one end of a connection that speaks just enough to log in.
type peer struct {
	net.Conn
	in *bufio.Reader
}

func (p *peer) send(t testing.TB, kind byte, body []byte) {
	t.Helper()
	frame := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))
	if _, err := p.Write(append(frame, body...)); err != nil {
		t.Error(err)
	}
}

func (p *peer) receive() (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	_, err = io.ReadFull(p.in, body)
	return head[0], body, err
}

func cstring(words ...string) []byte { return []byte(strings.Join(words, "\x00") + "\x00") }

// dialServer opens a connection to PostgreSQL and says hello; binding is nil without TLS.
func dialServer(t testing.TB, user string, encrypt bool) (p *peer, binding []byte) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", manager(t).Address(), exchangeLimit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(exchangeLimit))
	if encrypt {
		answer := make([]byte, 1)
		if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'S' {
			t.Fatalf("SSLRequest was answered %q, %v", answer, err)
		}
		secure := tls.Client(conn, &tls.Config{RootCAs: servers.Cluster(t).Certificates.Roots, ServerName: "127.0.0.1"})
		if err := secure.Handshake(); err != nil {
			t.Fatal(err)
		}
		binding, conn = TLSServerEndPoint(secure.ConnectionState().PeerCertificates[0]), secure
	}
	body := append([]byte{0, 3, 0, 0}, cstring("user", user, "database", "postgres", "")...)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)); err != nil {
		t.Fatal(err)
	}
	return &peer{conn, bufio.NewReader(conn)}, binding
}

// loginToPostgres logs in with our client and returns the mechanism used, and the server's or the client's error.
func loginToPostgres(t testing.TB, user string, cred Credential, encrypt bool) (mechanism string, err error) {
	t.Helper()
	p, binding := dialServer(t, user, encrypt)
	var client *ScramClient
	for {
		kind, body, err := p.receive()
		if err != nil {
			return "", err
		}
		if kind == 'E' {
			return "", errors.New(strings.ReplaceAll(string(body), "\x00", " "))
		}
		if kind != 'R' {
			return "", fmt.Errorf("message %q while logging in", kind)
		}
		switch request, data := binary.BigEndian.Uint32(body), body[4:]; request {
		case 0:
			return mechanism, nil
		case 5:
			response, err := MD5Response(cred, user, [4]byte(data))
			if err != nil {
				return "", err
			}
			mechanism = "md5"
			p.send(t, 'p', cstring(response))
		case 10:
			offered := strings.Split(strings.TrimRight(string(data), "\x00"), "\x00")
			if client, err = NewScramClient(cred, offered, binding); err != nil {
				return "", err
			}
			mechanism = client.Mechanism()
			first := client.First()
			p.send(t, 'p', append(binary.BigEndian.AppendUint32(cstring(mechanism), uint32(len(first))), first...))
		case 11:
			final, err := client.Next(data)
			if err != nil {
				return "", err
			}
			p.send(t, 'p', final)
		case 12:
			if err := client.Verify(data); err != nil {
				return "", err
			}
		default:
			return "", fmt.Errorf("authentication request %d", request)
		}
	}
}

func TestLoginToPostgres(t *testing.T) {
	verifier := mustVerifier(t, "pässword", nil, 5000)
	createRole(t, "ours", verifier.Reveal())
	createRole(t, "theirs", "pässword")
	createRole(t, "md5_user", "pässword", "SET password_encryption = md5")
	keysOf := func(secret Secret) Credential {
		keys, err := login(mustClient(t, PasswordCredential("pässword"), Mechanisms(false), nil), mustServer(t, secret, ScramSHA256, nil))
		if err != nil {
			t.Fatal(err)
		}
		return KeysCredential(keys)
	}
	hash, ok := storedSecret(t, "md5_user").Credential()
	if !ok || storedSecret(t, "md5_user").Kind() != SecretMD5 {
		t.Fatal("md5_user has no md5 hash in pg_authid")
	}
	for _, test := range []struct {
		name, user string
		cred       Credential
		encrypt    bool
		want       string
		err        string
	}{
		{"our verifier", "ours", PasswordCredential("pässword"), false, ScramSHA256, ""},
		{"our verifier, bound to TLS", "ours", PasswordCredential("pässword"), true, ScramSHA256Plus, ""},
		{"their verifier", "theirs", PasswordCredential("pässword"), true, ScramSHA256Plus, ""},
		{"keys from our verifier", "ours", keysOf(verifier), true, ScramSHA256Plus, ""},
		{"keys from pg_authid", "theirs", keysOf(storedSecret(t, "theirs")), false, ScramSHA256, ""},
		{"keys of another verifier", "theirs", keysOf(verifier), false, "", "another salt or iteration count"},
		{"wrong password", "ours", PasswordCredential("password"), false, "", "28P01"},
		{"unknown role", "nobody", PasswordCredential("password"), true, "", "28P01"},
		{"md5 password", "md5_user", PasswordCredential("pässword"), true, "md5", ""},
		{"md5 hash", "md5_user", hash, false, "md5", ""},
		{"md5 wrong password", "md5_user", PasswordCredential("x"), false, "", "28P01"},
		{"md5 with keys", "md5_user", keysOf(verifier), false, "", "only SCRAM keys"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := loginToPostgres(t, test.user, test.cred, test.encrypt)
			if test.err == "" && (err != nil || got != test.want) {
				t.Fatalf("login used %q, %v, want %s", got, err, test.want)
			}
			if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Fatalf("login: %v, want an error with %q", err, test.err)
			}
		})
	}
}

// TestPasswordsArePreparedAsInPostgres lets PostgreSQL hash odd passwords and checks them with its verifiers.
func TestPasswordsArePreparedAsInPostgres(t *testing.T) {
	createRole(t, "odd", "x")
	conn, err := pgconn.Connect(t.Context(), manager(t).URL("", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	check := func(password string) {
		sql := fmt.Sprintf(`ALTER ROLE odd PASSWORD '%s'; SELECT rolpassword FROM pg_authid WHERE rolname = 'odd'`, strings.ReplaceAll(password, "'", "''"))
		results, err := conn.Exec(t.Context(), sql).ReadAll()
		if err != nil {
			t.Fatalf("%+q: %v", password, err)
		}
		if !CheckPassword(mustSecret(t, string(results[1].Rows[0][0])), "odd", password) {
			t.Errorf("%+q: PostgreSQL's verifier refuses it", password)
		}
	}
	for _, password := range []string{
		"plain", "tab\there", "I\u00adX", "\u00aa", "\u2168", "\u00adx", "\u00ad", "a\u00a0b", "a\u200bb", "\u0627\u0031", "\u0627x\u0628", "\u0627\u0628",
		"\u0221", "\U0001f600 smile", "e\u0301", "\u212b", "\ufb01", "\ue000", "\u1e9e", "\u3000", "q\u0344", "\uff21", "a\u0340",
	} {
		check(password)
	}
	// Characters from blocks where the tables have their edges, with a seed that makes failures repeatable.
	random := rand.New(rand.NewPCG(1, 2))
	blocks := [][2]rune{{0x20, 0x7e}, {0x80, 0x24f}, {0x300, 0x6ff}, {0x900, 0x1200}, {0x1680, 0x20ff}, {0x3000, 0x33ff}, {0xf900, 0xffff}, {0x10300, 0x10400}, {0x1d100, 0x1d7ff}, {0xe0000, 0xe0100}}
	for range 300 {
		var text strings.Builder
		for range 1 + random.IntN(3) {
			block := blocks[random.IntN(len(blocks))]
			text.WriteRune(block[0] + random.Int32N(block[1]-block[0]+1))
		}
		check(text.String())
	}
}

// serveLogin accepts one client and lets our server side check it; the client may then send queries, which are all
// answered as empty. The mechanism used arrives on the channel, or nothing if the login failed.
func serveLogin(t *testing.T, secret Secret, encrypt bool) (address string, used chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	files := servers.Cluster(t).Certificates
	cert, err := tls.LoadX509KeyPair(files.ServerCert, files.ServerKey)
	if err != nil {
		t.Fatal(err)
	}
	used = make(chan string, 1)
	served := make(chan struct{})
	t.Cleanup(func() { listener.Close(); <-served })
	go func() { // ends with its connection, or when the listener closes
		defer close(served)
		defer close(used)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(exchangeLimit))
		serveOne(t, conn, secret, encrypt, cert, used)
	}()
	return listener.Addr().String(), used
}

func serveOne(t *testing.T, conn net.Conn, secret Secret, encrypt bool, cert tls.Certificate, used chan<- string) {
	var binding []byte
	for { // SSLRequest, then the startup packet
		var head [8]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			t.Error(err)
			return
		}
		if code := binary.BigEndian.Uint32(head[4:]); code == 80877103 {
			answer := map[bool]string{true: "S", false: "N"}[encrypt]
			io.WriteString(conn, answer)
			if encrypt {
				secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
				conn, binding = secure, TLSServerEndPoint(cert.Leaf)
			}
			continue
		}
		if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[:]))-8); err != nil {
			t.Error(err)
			return
		}
		break
	}
	p := &peer{conn, bufio.NewReader(conn)}
	p.send(t, 'R', append([]byte{0, 0, 0, 10}, cstring(append(Mechanisms(binding != nil), "")...)...))
	_, body, err := p.receive()
	if err != nil {
		t.Error(err)
		return
	}
	end := slices.Index(body, 0)
	mechanism := string(body[:end])
	server, err := NewScramServer(secret, mechanism, binding)
	if err != nil {
		t.Error(err)
		return
	}
	first, err := server.First(body[end+5:])
	if err != nil {
		t.Error(err)
		return
	}
	p.send(t, 'R', append([]byte{0, 0, 0, 11}, first...))
	if _, body, err = p.receive(); err != nil {
		t.Error(err)
		return
	}
	final, _, err := server.Final(body)
	if errors.Is(err, ErrWrongPassword) {
		refusal := PasswordFailed("u")
		p.send(t, 'E', cstring("SFATAL", "C"+refusal.Code, "M"+refusal.Message, ""))
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	used <- mechanism
	p.send(t, 'R', append([]byte{0, 0, 0, 12}, final...))
	p.send(t, 'R', []byte{0, 0, 0, 0})
	p.send(t, 'Z', []byte{'I'})
	for {
		kind, _, err := p.receive()
		if err != nil || kind == 'X' {
			return
		}
		p.send(t, 'I', nil)
		p.send(t, 'Z', []byte{'I'})
	}
}

func TestRealClientsLogInToOurServer(t *testing.T) {
	createRole(t, "theirs2", "pässword")
	psql := func(address, password, options string) error {
		binaries, err := localpg.FindBinaries()
		if err != nil {
			t.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(address)
		ctx, cancel := context.WithTimeout(t.Context(), exchangeLimit)
		defer cancel()
		command := exec.CommandContext(ctx, binaries.Path("psql"), fmt.Sprintf("host=%s port=%s user=u dbname=d %s", host, port, options), "-X", "-c", ";")
		command.Env = append(os.Environ(), "PGPASSWORD="+password)
		output, err := command.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	}
	pgx := func(address, password, options string) error {
		host, port, _ := net.SplitHostPort(address)
		ctx, cancel := context.WithTimeout(t.Context(), exchangeLimit)
		defer cancel()
		conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s user=u dbname=d password='%s' %s", host, port, password, options))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
	secrets := map[string]Secret{"pg_authid": storedSecret(t, "theirs2"), "plaintext": mustSecret(t, "pässword"), "ours": mustVerifier(t, "pässword", nil, 1000)}
	for clientName, connect := range map[string]func(address, password, options string) error{"libpq": psql, "pgx": pgx} {
		for secretName, secret := range secrets {
			for _, test := range []struct {
				options string
				encrypt bool
				want    string
			}{
				{"sslmode=disable", false, ScramSHA256},
				{"sslmode=require channel_binding=require", true, ScramSHA256Plus},
				{"sslmode=require channel_binding=disable", true, ScramSHA256},
			} {
				t.Run(clientName+" "+secretName+" "+test.options, func(t *testing.T) {
					address, used := serveLogin(t, secret, test.encrypt)
					if err := connect(address, "pässword", test.options); err != nil {
						t.Fatal(err)
					}
					if got := <-used; got != test.want {
						t.Fatalf("mechanism %q, want %s", got, test.want)
					}
				})
			}
		}
		t.Run(clientName+" with a wrong password", func(t *testing.T) {
			address, _ := serveLogin(t, secrets["ours"], true)
			if err := connect(address, "password", "sslmode=require"); err == nil || !strings.Contains(err.Error(), "password authentication failed") {
				t.Fatalf("error %v, want a refused password", err)
			}
		})
	}
}
