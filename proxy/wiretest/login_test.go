package wiretest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgtier/proxy/pool"
)

// loginSettings are startup parameters that clients of the programs below ask for.
var loginSettings = [][]string{
	nil,
	{"TimeZone=Asia/Tokyo"},
	{"options=-c datestyle=German -c work_mem=7MB"},
	{"DateStyle=SQL, DMY", "options=-c intervalstyle=iso_8601 -c search_path=other"},
	{"client_encoding=LATIN1", "TimeZone=Europe/Rome"},
}

// loginProgram is a random sequence of requests that set settings and bring back those of the login, and of statements
// whose literals depend on them.
func loginProgram(r *rand.Rand, client int) [][]byte {
	values := map[string][]string{"timezone": {"'UTC'", "'Asia/Tokyo'", "'Europe/Rome'"}, "search_path": {"public", "other", "other, public"},
		"datestyle": {"'German'", "'ISO, MDY'", "'SQL, DMY'"}, "intervalstyle": {"'sql_standard'", "'iso_8601'", "'postgres'"},
		"work_mem": {"'1MB'", "'2MB'"}, "client_encoding": {"'UTF8'", "'LATIN1'"}, "standard_conforming_strings": {"on", "off"},
		"transform_null_equals": {"on", "off"}}
	var names []string
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	pick := func(of []string) string { return of[r.IntN(len(of))] }
	text := func() string {
		return pick([]string{
			fmt.Sprintf("SELECT %d, extract(epoch FROM timestamptz '2024-01-01 12:00'), date '02.03.2024' - date '01.01.2024', interval '1-2', current_setting('timezone')", client%3),
			fmt.Sprintf("SELECT %d, current_setting('timezone'), current_setting('datestyle'), current_setting('intervalstyle'), current_setting('work_mem')", client%3),
			fmt.Sprintf("SELECT %d, x = NULL FROM (VALUES (1),(NULL)) v(x)", client%3),
			fmt.Sprintf("SELECT %d, 'a\\\\b' || 'c'", client%3),
			fmt.Sprintf("SELECT %d, n FROM lg LIMIT 1", client%3),
			fmt.Sprintf("SELECT %d, '2024-01-01'::timestamptz::text, now() < 'infinity'", client%3),
		})
	}
	var out [][]byte
	for range programLength {
		name := pick(names)
		set := name + " = " + pick(values[name])
		show := "SHOW " + pick(names)
		reset := pick([]string{"RESET " + pick(names), "RESET ALL", "SET " + pick(names) + " TO DEFAULT", "SET LOCAL " + pick(names) + " TO DEFAULT",
			"SET SESSION " + pick(names) + " = DEFAULT", "SET TIME ZONE DEFAULT", "SET TIME ZONE LOCAL",
			"SELECT set_config('" + pick(names) + "', NULL, " + pick([]string{"true", "false"}) + ")"})
		statement := fmt.Sprintf("p%d", r.IntN(3))
		sql := pick([]string{"SET " + set, "SET LOCAL " + set, reset, reset, show, "BEGIN", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN",
			"SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "SELECT 1/0", text(), "PREPARE " + statement + " AS " + text(), "EXECUTE " + statement,
			"EXECUTE " + statement, "DEALLOCATE " + statement, "DEALLOCATE ALL", reset + "; " + show, reset + "; SELECT 1/0", show + "; " + reset, "SET " + set + "; " + reset, reset + "; " + "SET " + set,
			"BEGIN; SET LOCAL " + set + "; " + reset + "; COMMIT AND CHAIN", "DISCARD ALL", "BEGIN; SET " + set + "; SAVEPOINT s",
			"DO $$ BEGIN RESET " + pick(names) + "; END $$",
			"parse", "parse", "execute", "execute", "pipeline", "pipeline", "unnamed", "unnamed", "resets", "sets", "flush", "close", "bad"})
		switch sql {
		case "parse":
			out = append(out, append(parseMessage(statement, text()), syncMessage()...))
		case "execute":
			out = append(out, append(runMessage(statement), syncMessage()...))
		case "pipeline":
			out = append(out, slices.Concat(parseMessage("", text()), runMessage(""), runMessage(statement), syncMessage()))
		case "unnamed":
			out = append(out, append(runMessage(""), syncMessage()...))
		case "resets":
			out = append(out, slices.Concat(parseMessage("", reset), runMessage(""), parseMessage("", show), runMessage(""), syncMessage()))
		case "sets":
			out = append(out, slices.Concat(parseMessage("", "SET "+set), runMessage(""), parseMessage("", text()), runMessage(""), syncMessage()))
		case "close":
			out = append(out, slices.Concat(frameOf('C', cstring("S"+statement)), parseMessage("", text()), syncMessage()))
		case "bad":
			bad := [][]byte{parseMessage("", "SELEC"), parseMessage("", "SELECT 1/0"), runMessage(""), runMessage(statement), parseMessage(statement, text()),
				parseMessage("", text()), frameOf('D', cstring("S")), frameOf('D', cstring("S"+statement)), parseMessage("", reset), parseMessage("", "SET "+set)}
			r.Shuffle(len(bad), func(i, j int) { bad[i], bad[j] = bad[j], bad[i] })
			out = append(out, append(slices.Concat(bad[:5]...), syncMessage()...))
		case "flush":
			out = append(out, slices.Concat(parseMessage("", text()), runMessage(""), frameOf('H', nil), runMessage(statement), syncMessage()))
		default:
			out = append(out, queryMessage(sql))
		}
	}
	return append(out, queryMessage("ROLLBACK"))
}

// loginRounds is more than programRounds: many programs stop early, at a refusal. The programs are the same in every
// run, who meets whom is not.
const loginRounds = 8

// settled is an answer with its ParameterStatus in one order.
func settled(answer string) string {
	all := strings.Split(answer, "\n")
	var told []string
	rest := slices.DeleteFunc(all, func(line string) bool {
		is := strings.HasPrefix(line, "ParameterStatus")
		if is {
			told = append(told, line)
		}
		return is
	})
	slices.Sort(told)
	return strings.Join(append(rest, told...), "\n")
}

func TestProgramsOfLoginsWithSettingsAnswerAsIfAlone(t *testing.T) {
	r := newRig(t)
	r.direct("CREATE TABLE IF NOT EXISTS public.lg(n text)")
	r.direct("CREATE SCHEMA IF NOT EXISTS other")
	r.direct("CREATE TABLE IF NOT EXISTS other.lg(n text)")
	r.direct("INSERT INTO public.lg VALUES ('public')")
	r.direct("INSERT INTO other.lg VALUES ('other')")
	_, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, programConnections))
	r.inRounds(t, loginRounds, func(round, client int) func() {
		rnd := rand.New(rand.NewPCG(uint64(round), uint64(client)))
		login := loginSettings[rnd.IntN(len(loginSettings))]
		requests := loginProgram(rnd, client)
		alone := connect(t, r.manager.Address(), login...)
		want, err := answers(alone, requests)
		alone.close()
		if err != nil {
			t.Fatal(err)
		}
		p := connect(t, address, login...)
		return func() {
			defer p.close()
			got, err := answers(p, requests)
			i := unlike(got, want, func(got, want string) bool { return settled(got) == settled(want) })
			if i < 0 || strings.Contains(append(got, "")[min(i, len(got))], "C=\"0A000\"") { // refused, as README says
				return
			}
			var before strings.Builder
			for _, q := range requests[max(0, i-12) : i+1] {
				fmt.Fprintf(&before, "  %q\n", q)
			}
			t.Errorf("round %d, client %d, login %q, request %d:\n%s%v\ngot:\n%swant:\n%s", round, client, login, i,
				before.String(), err, append(got, "")[min(i, len(got))], want[i])
		}
	})
}
