package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"pgtier/configs"
	"pgtier/resharder"
	"pgtier/router/shard"
)

// reshardFlags are those of all reshard commands; some have only part of them.
type reshardFlags struct {
	config, database string
	to               []string
	add, drain       []string // one each, but who says two is told
	auto             bool
}

// reshardVerb is one reshard command.
type reshardVerb struct {
	name, short string
	goal, auto  bool // it takes a goal, and --auto
	run         func(*reshardRun, context.Context) error
}

// reshardVerbs is every reshard command.
func reshardVerbs() []reshardVerb {
	return []reshardVerb{
		{name: "plan", short: "Say what a goal would move, and what is in the way; changes nothing", goal: true, run: (*reshardRun).plan},
		{name: "start", short: "Copy what a goal moves and follow changes from then on, while clients work", goal: true, auto: true, run: (*reshardRun).start},
		{name: "status", short: "Say how far the job is", run: (*reshardRun).status},
		{name: "verify", short: "Compare the rows on both sides while clients write", run: (*reshardRun).verify},
		{name: "cutover", short: "Let the new owners serve; statements wait some milliseconds, group by group", run: (*reshardRun).cutover},
		{name: "rollback", short: "Let the old owners serve again, with what was written meanwhile", run: (*reshardRun).rollback},
		{name: "finish", short: "Give the way back up: delete what has moved where it was", run: (*reshardRun).finish},
		{name: "cancel", short: "Take everything back before a cutover", run: (*reshardRun).cancel},
	}
}

func reshardCommand() *cobra.Command {
	parent := &cobra.Command{
		Use:   "reshard plan|start|status|verify|cutover|rollback|finish|cancel --config FILE --database DB",
		Short: "Move buckets between shards while clients work",
		Long: "Move buckets between shards while clients work: from one server to several, to a new shard, off an old one.\n\n" +
			"A running pgtier serve carries the job on, whichever of several; while none does, the command itself does. Every command can be\n" +
			"repeated after a crash. Exit status 0: done (start: copied and following; cutover: the new owners serve), 1: not done, and why.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("reshard: say plan, start, status, verify, cutover, rollback, finish or cancel")}
		},
	}
	for _, verb := range reshardVerbs() {
		parent.AddCommand(verb.command())
	}
	return parent
}

func (v reshardVerb) command() *cobra.Command {
	var flags reshardFlags
	use := v.name + " --config FILE --database DB"
	if v.goal {
		use += " (--to s0,s1,… | --add SHARD | --drain SHARD)"
	}
	if v.auto {
		use += " [--auto]"
	}
	command := &cobra.Command{Use: use, Short: v.short, Args: usageArgs(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		r, err := newReshardRun(flags, cmd.OutOrStdout(), os.Environ())
		if err != nil {
			return err
		}
		defer r.close()
		return v.run(r, cmd.Context())
	}}
	set := command.Flags()
	set.StringVar(&flags.config, "config", "", "the configuration file")
	set.StringVar(&flags.database, "database", "", "the sharded database; may be left out where there is one")
	if v.goal {
		set.StringSliceVar(&flags.to, "to", nil, "spread the buckets evenly over these shards, and over no others")
		set.StringArrayVar(&flags.add, "add", nil, "give this shard its share")
		set.StringArrayVar(&flags.drain, "drain", nil, "give the buckets of this shard to the others")
	}
	if v.auto {
		set.BoolVar(&flags.auto, "auto", false, "cut over without being asked, once all is copied and both sides are equal")
	}
	return command
}

// reshardRun is one run of a reshard command.
type reshardRun struct {
	out     io.Writer
	flags   reshardFlags
	config  resharder.Config
	control *resharder.Control
}

func newReshardRun(flags reshardFlags, out io.Writer, env []string) (*reshardRun, error) {
	if flags.config == "" {
		return nil, usageError{errors.New("--config is missing; name the configuration file")}
	}
	loaded, err := configs.Load(flags.config, env)
	if err != nil {
		return nil, err
	}
	name, err := shardedDatabase(loaded.Proxy, flags.database)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // a name for people; "" is one
	config, err := reshardConfig(loaded.Proxy, name, "pgtier reshard on "+host, nil, zap.NewNop())
	if err != nil {
		return nil, err
	}
	return &reshardRun{out: out, flags: flags, config: config, control: resharder.NewControl(config)}, nil
}

func (r *reshardRun) close() { r.control.Close() }

// goal is what the flags ask for.
func (r *reshardRun) goal() (goal resharder.Goal, err error) {
	for _, name := range r.flags.to {
		goal.To = append(goal.To, shard.Name(strings.TrimSpace(name)))
	}
	said := len(r.flags.add) + len(r.flags.drain)
	for _, name := range r.flags.add {
		goal.Add = shard.Name(name)
	}
	for _, name := range r.flags.drain {
		goal.Drain = shard.Name(name)
	}
	switch {
	case said > 1 && len(goal.To) == 0:
		return goal, usageError{errors.New("one shard is added or drained at a time; --to names all that shall have buckets")}
	case said > 1, (len(goal.To) > 0) == (goal.Add != "" || goal.Drain != ""):
		return goal, usageError{errors.New("say where the buckets shall go: --to s0,s1 or --add s1 or --drain s1, one of them")}
	}
	return goal, nil
}

func (r *reshardRun) plan(ctx context.Context) error {
	goal, err := r.goal()
	if err != nil {
		return err
	}
	p, err := resharder.MakePlan(ctx, r.config, goal)
	if err != nil {
		return err
	}
	r.printPlan(p)
	if !p.Possible() {
		return silentError{}
	}
	return nil
}

// printPlan prints what a goal comes to.
func (r *reshardRun) printPlan(p *resharder.Plan) {
	for _, f := range p.Findings {
		fmt.Fprintln(r.out, f)
	}
	for i := range p.Moves {
		m := &p.Moves[i]
		fmt.Fprintf(r.out, "move  %s to %s: buckets %s, cut over in %d groups\n", m.Source, m.Target, shard.SpansText(m.Spans()), len(m.Groups))
	}
	if len(p.Moves) > 0 {
		fmt.Fprintf(r.out, "sum   %d of %d buckets, %s and %s to copy; about %s at %s a second\n", p.Moved(), r.config.Map.Buckets, rowsText(p), bytesText(p.Bytes), p.Time, bytesText(resharder.CopyRate))
	}
}

func (r *reshardRun) start(ctx context.Context) error {
	goal, err := r.goal()
	if err != nil {
		return err
	}
	s, err := r.control.Status(ctx)
	switch {
	case err != nil && !errors.Is(err, resharder.ErrNoJob):
		return err
	case err == nil && s.UnderWay() && s.Goal.String() == goal.String(): // said again, perhaps after a crash
		if _, err := r.control.Journal().Ask(ctx, resharder.WishStart, r.flags.auto || s.Auto); err != nil {
			return err
		}
	default:
		p, err := resharder.Start(ctx, r.config, goal, r.flags.auto)
		if p != nil {
			r.printPlan(p)
			if !p.Possible() { // which is all that err says
				return silentError{}
			}
		}
		if err != nil {
			return err
		}
		if len(p.Moves) == 0 {
			return nil
		}
	}
	return r.watch(ctx, func(s *resharder.Status) bool {
		return s.Step == resharder.StepDone || s.Step == resharder.StepFollow && (!s.Auto || cutOver(s))
	}, r.sayStarted)
}

// sayStarted says what has come of start, with --auto and without.
func (r *reshardRun) sayStarted(s *resharder.Status) {
	switch {
	case s.Step == resharder.StepDone:
	case cutOver(s):
		fmt.Fprintln(r.out, saidCutOver)
		r.printHeld(s)
		return
	case s.Progress.GroupsDone > 0:
		fmt.Fprintf(r.out, "the new owners serve %d of %d groups of buckets; pgtier reshard cutover goes on with the others, rollback goes back\n", s.Progress.GroupsDone, s.Progress.Groups)
		return
	default:
		fmt.Fprintln(r.out, "copied and following; pgtier reshard cutover lets the new owners serve")
		return
	}
	var rows int64
	for _, m := range s.Progress.Moves {
		rows += m.Rows
	}
	fmt.Fprintf(r.out, "the job is done: %d rows copied, %d groups of buckets cut over, nothing is left at the old owners\n", rows, s.Progress.Groups)
	r.printHeld(s)
}

func (r *reshardRun) status(ctx context.Context) error {
	s, err := r.control.Status(ctx)
	if errors.Is(err, resharder.ErrNoJob) {
		fmt.Fprintf(r.out, "database %s has never had a job\n", r.config.Map.Database)
		return nil
	}
	if err != nil {
		return err
	}
	r.printStatus(s)
	if s.Error != "" && s.UnderWay() {
		return silentError{}
	}
	return nil
}

// wish asks for something and waits until it is so.
func (r *reshardRun) wish(ctx context.Context, wish resharder.Wish, done func(*resharder.Status) bool, said string) error {
	s, err := r.control.Status(ctx)
	if err != nil {
		return err
	}
	if done(s) && wish != resharder.WishVerify { // said again, perhaps after a crash
		fmt.Fprintln(r.out, said)
		return nil
	}
	if _, err := r.control.Journal().Ask(ctx, wish, false); err != nil {
		return err
	}
	return r.watch(ctx, done, func(*resharder.Status) { fmt.Fprintln(r.out, said) })
}

func (r *reshardRun) verify(ctx context.Context) error {
	return r.wish(ctx, resharder.WishVerify, func(s *resharder.Status) bool { return s.Wish != resharder.WishVerify && s.Progress.Verified != nil }, "both sides are equal")
}

// saidCutOver is said when a cutover is through.
const saidCutOver = "the new owners serve; pgtier reshard finish gives the way back up, rollback goes it"

// cutOver reports whether the new owners serve all groups.
func cutOver(s *resharder.Status) bool {
	return s.Progress.Groups > 0 && s.Progress.GroupsDone == s.Progress.Groups
}

func (r *reshardRun) cutover(ctx context.Context) error {
	err := r.wish(ctx, resharder.WishCutover, func(s *resharder.Status) bool {
		return s.Step == resharder.StepFollow && cutOver(s) && s.Answered() && s.Wish != resharder.WishRollback
	}, saidCutOver)
	if err == nil {
		if s, err := r.control.Status(ctx); err == nil {
			r.printHeld(s)
		}
	}
	return err
}

func (r *reshardRun) rollback(ctx context.Context) error {
	return r.wish(ctx, resharder.WishRollback, rolledBack, "the old owners serve; changes follow as before the cutover")
}

// rolledBack reports whether the old owners serve all groups, and go on to. That no group is cut over is not enough: what the mover said last may be older than its last cut, and a
// cutover that is under way goes on until the mover hears of another wish. While rows are copied nothing is cut over.
func rolledBack(s *resharder.Status) bool {
	if s.Progress.Groups == 0 || s.Progress.GroupsDone > 0 || s.Auto || s.Wish == resharder.WishCutover {
		return false
	}
	return s.Step == resharder.StepCopy || s.Step == resharder.StepFollow && s.Wish != resharder.WishRollback && s.Answered()
}

func (r *reshardRun) finish(ctx context.Context) error {
	if err := r.wish(ctx, resharder.WishFinish, func(s *resharder.Status) bool { return s.Step == resharder.StepDone }, "the job is done, nothing is left of it"); err != nil {
		return err
	}
	if s, err := r.control.Status(ctx); err == nil && !cutOver(s) { // a stream was lost in the middle
		fmt.Fprintf(r.out, "%d of %d groups of buckets have their new owners, the others have stayed; another pgtier reshard start moves them\n", s.Progress.GroupsDone, s.Progress.Groups)
	}
	return nil
}

func (r *reshardRun) cancel(ctx context.Context) error {
	cancelled := func(s *resharder.Status) bool { return s.Step == resharder.StepCancelled }
	s, err := r.control.Status(ctx)
	if err != nil {
		return err
	}
	if !cancelled(s) {
		if _, err := r.control.Journal().Ask(ctx, resharder.WishCancel, false); err != nil {
			return err
		}
		if err := r.watch(ctx, cancelled, func(*resharder.Status) {}); err != nil {
			return err
		}
	}
	// Servers that were not reached may be by now.
	if err := resharder.CleanUp(ctx, r.config); err != nil {
		return err
	}
	if s, err = r.control.Status(ctx); err != nil {
		return err
	}
	if len(s.Progress.Left) > 0 {
		said := make([]string, len(s.Progress.Left))
		for i, left := range s.Progress.Left {
			said[i] = left.String()
		}
		return fmt.Errorf("everything is taken back but at servers that cannot be reached: %s", strings.Join(said, "; "))
	}
	fmt.Fprintln(r.out, "everything is taken back")
	return nil
}

// printStatus prints everything about a job.
func (r *reshardRun) printStatus(s *resharder.Status) {
	p := &s.Progress
	fmt.Fprintf(r.out, "job %d of database %s: %s, step %s, wanted %s, begun %s\n", s.Number, s.Database, s.Goal, s.Step, s.Wish, s.Made.Format(time.RFC3339))
	if s.UnderWay() {
		switch {
		case !s.Carried:
			fmt.Fprintln(r.out, "nobody carries it on: run pgtier serve")
		default:
			fmt.Fprintf(r.out, "%s carries it on\n", s.Mover)
		}
	}
	for _, m := range p.Moves {
		fmt.Fprintf(r.out, "%s to %s: %d of %d groups cut over, %d rows and %s copied of about %d and %s", m.Source, m.Target, m.GroupsDone, m.Groups, m.Rows, bytesText(m.Bytes), m.ExpectedRows, bytesText(m.ExpectedBytes))
		if m.ETA > 0 {
			fmt.Fprintf(r.out, ", %s a second, about %s left", bytesText(m.Rate), m.ETA)
		}
		if m.State == "stream" && s.UnderWay() {
			fmt.Fprintf(r.out, ", lag %s, back %s, log kept %s and %s", bytesText(m.Lag), bytesText(m.ReverseLag), bytesText(m.Retained), bytesText(m.ReverseRetained))
		}
		if m.Throttled != "" && s.UnderWay() {
			fmt.Fprintf(r.out, ", throttled: %s", m.Throttled)
		}
		fmt.Fprintln(r.out)
	}
	if p.Verified != nil {
		fmt.Fprintf(r.out, "both sides were equal at %s\n", p.Verified.Format(time.RFC3339))
	}
	r.printHeld(s)
	doing := p.Doing
	if s.Error != "" { // it does nothing any more
		doing = ""
	}
	for _, line := range []struct{ what, text string }{{"does", doing}, {"trouble", p.Trouble}, {"stopped", s.Error}} {
		if line.text != "" && s.UnderWay() {
			fmt.Fprintf(r.out, "%s: %s\n", line.what, line.text)
		}
	}
	for _, warning := range p.Warnings {
		fmt.Fprintf(r.out, "warn: %s\n", warning)
	}
	for _, left := range p.Left {
		fmt.Fprintf(r.out, "left: %s\n", left)
	}
}

// printHeld prints how long cuts held statements.
func (r *reshardRun) printHeld(s *resharder.Status) {
	p := &s.Progress
	if len(p.Cuts) == 0 {
		return
	}
	ms := func(q float64) float64 { return float64(p.HeldQuantile(q).Microseconds()) / 1000 }
	fmt.Fprintf(r.out, "%d cuts held statements for %.1f ms (p50), %.1f ms (p99), %.1f ms (max); %d attempts came too late and were taken back\n", len(p.Cuts), ms(0.5), ms(0.99), ms(1), p.Misses)
}

// rowsText says how many rows are copied, as far as anybody knows.
func rowsText(p *resharder.Plan) string {
	switch {
	case p.Uncounted == 0:
		return fmt.Sprintf("about %d rows", p.Rows)
	case p.Rows == 0:
		return "rows that nobody has counted yet (ANALYZE does)"
	}
	return fmt.Sprintf("about %d rows, and those of %d tables that nobody has counted yet (ANALYZE does),", p.Rows, p.Uncounted)
}

// bytesText writes bytes for people.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d kB", (n+1023)>>10)
}
