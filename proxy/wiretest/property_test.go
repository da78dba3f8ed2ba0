package wiretest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"pgtier/proxy"
	"pgtier/proxy/pool"
)

// Sizes of the programs: many more clients than connections, so that nearly
// every statement lands on a connection that somebody else has changed.
const (
	programClients     = 8
	programConnections = 2
	// pipelinedConnections are the fewest of which one may be a pipeline.
	pipelinedConnections = 4
	programLength        = 60
	programRounds        = 3
)

// program is a random sequence of requests about session state. Clients must
// not touch what others see: there are no tables in it. A custom setting that was
// made once stays known to its connection, as an empty string rather than NULL:
// nobody can take that back, so the programs do not tell the two apart.
func program(r *rand.Rand, client int) [][]byte {
	names := []string{"timezone", "search_path", "work_mem", "datestyle", "my.own"}
	values := map[string][]string{"timezone": {"UTC", "Asia/Tokyo", "Europe/Rome"}, "search_path": {"public", "other", "other, public"},
		"work_mem": {"1MB", "2MB", "3MB"}, "datestyle": {"German", "ISO, MDY", "SQL, DMY"}, "my.own": {fmt.Sprint("client ", client), "x"}}
	pick := func(of []string) string { return of[r.IntN(len(of))] }
	var out [][]byte
	for i := range programLength {
		name := pick(names)
		set := fmt.Sprintf("%s = '%s'", name, pick(values[name]))
		if name == "search_path" {
			set = name + " = " + pick(values[name])
		}
		statement := fmt.Sprintf("p%d", r.IntN(3))
		text := fmt.Sprintf("SELECT %d, current_setting('timezone'), current_setting('search_path')", client*1000+i)
		sql := pick([]string{"SET " + set, "SET LOCAL " + set, "RESET " + pick(names[:4]), "SHOW " + pick(names[:4]), "BEGIN", "COMMIT", "ROLLBACK",
			"COMMIT AND CHAIN", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "SELECT 1/0", "SELECT nullif(current_setting('my.own', true), '')",
			"PREPARE " + statement + " AS " + text, "EXECUTE " + statement, "DEALLOCATE " + statement, "SET " + set + "; SELECT 1/0",
			"BEGIN; SET " + set + "; COMMIT", "SELECT set_config('timezone', 'Asia/Seoul', " + pick([]string{"true", "false"}) + ")",
			"DISCARD ALL", "RESET ALL", "parse", "execute", "pipeline", "unnamed"})
		switch sql {
		case "parse":
			out = append(out, append(parseMessage(statement, text), syncMessage()...))
		case "execute":
			out = append(out, append(runMessage(statement), syncMessage()...))
		case "pipeline":
			out = append(out, append(append(append(parseMessage("", text), runMessage("")...), runMessage(statement)...), syncMessage()...))
		case "unnamed":
			out = append(out, append(runMessage(""), syncMessage()...))
		default:
			out = append(out, queryMessage(sql))
		}
	}
	return append(out, queryMessage("ROLLBACK"))
}

func syncMessage() []byte { return frameOf('S', nil) }

func parseMessage(name, sql string) []byte {
	return frameOf('P', append(append(cstring(name), cstring(sql)...), 0, 0))
}

// runMessage binds the statement to the unnamed portal and executes it.
func runMessage(name string) []byte {
	bind := frameOf('B', append(append([]byte{0}, cstring(name)...), 0, 0, 0, 0, 0, 0))
	return append(bind, frameOf('E', []byte{0, 0, 0, 0, 0})...)
}

// answers runs a program and returns what came back for each request.
func answers(p *peer, requests [][]byte) ([]string, error) {
	var out []string
	for _, request := range requests {
		if err := p.write(request); err != nil {
			return out, err
		}
		frames, err := p.readUntil("Z", 1)
		out = append(out, lines(frames))
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// inRounds has all clients at work at the same time, round by round until one fails. prepare returns the work of one.
func (r *rig) inRounds(t *testing.T, rounds int, prepare func(round, client int) (work func())) {
	for round := range rounds {
		var all sync.WaitGroup
		for client := range programClients {
			all.Go(prepare(round, client))
		}
		all.Wait()
		if t.Failed() {
			return
		}
		r.atRest(t)
	}
}

// unlike is the number of the first answer that is not as wanted, -1 if there is none.
func unlike(got, want []string, same func(got, want string) bool) int {
	for i := range want {
		if i >= len(got) || !same(got[i], want[i]) {
			return i
		}
	}
	return -1
}

func TestProgramsOfManyClientsOnFewConnectionsAnswerAsIfAlone(t *testing.T) {
	t.Run("two connections", func(t *testing.T) { answersAsIfAlone(t, programConnections) })
	t.Run("in pipelines", func(t *testing.T) { answersAsIfAlone(t, pipelinedConnections, proxy.WithEagerPipelines()) })
}

func answersAsIfAlone(t *testing.T, connections int, options ...proxy.Option) {
	t.Helper()
	r := newRig(t)
	_, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, connections), options...)
	seed := rand.Uint64()
	r.inRounds(t, programRounds, func(round, client int) func() {
		requests := program(rand.New(rand.NewPCG(seed+uint64(round), uint64(client))), client)
		want, err := answers(connect(t, r.manager.Address()), requests)
		if err != nil {
			t.Fatal(err)
		}
		p := connect(t, address)
		return func() {
			defer p.close()
			got, err := answers(p, requests)
			if i := unlike(got, want, func(got, want string) bool { return got == want }); i >= 0 {
				t.Errorf("seed %d, round %d, client %d, request %d: %q\n%v\ngot:\n%swant:\n%s", seed, round, client, i,
					requests[max(0, i-8):i+1], err, append(got, "")[min(i, len(got))], want[i])
			}
		}
	})
}
