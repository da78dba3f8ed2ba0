package resharder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"pgtier/proxy/shardmap"
	"pgtier/router/shard"
)

// Wish is what people want of a job.
type Wish string

// The wishes.
const (
	WishStart    Wish = "start"    // copy, and follow from then on
	WishVerify   Wish = "verify"   // compare both sides again
	WishCutover  Wish = "cutover"  // let the targets own the buckets
	WishRollback Wish = "rollback" // let the sources own them again
	WishFinish   Wish = "finish"   // give up the way back
	WishCancel   Wish = "cancel"   // take everything back
)

// Step is how far a job is.
type Step string

// The steps, in order. A job is over at StepDone and StepCancelled.
const (
	StepPlanned   Step = "planned"
	StepAnnounce  Step = "announce"
	StepSchema    Step = "schema"
	StepGuard     Step = "guard"
	StepCopy      Step = "copy"
	StepIndex     Step = "index"
	StepJoin      Step = "join"
	StepFollow    Step = "follow" // all rows are at the targets, and changes follow; some groups may be cut over, or all
	StepFinish    Step = "finish"
	StepCancel    Step = "cancel"
	StepDone      Step = "done"
	StepCancelled Step = "cancelled"
)

// over reports whether nothing is left to do.
func (s Step) over() bool { return s == StepDone || s == StepCancelled }

// Job is one goal of one database, as the control database has it.
type Job struct {
	Database string
	Number   int64
	Goal     Goal
	// Moves are fixed when the job is made, Joins are the targets that are no members yet, Leaves are the sources that will have no buckets and are not home.
	Moves  []Move
	Joins  []shard.Name
	Leaves []shard.Name
	Wish   Wish
	// Auto: cutover follows by itself. The way back stays, until people give it up.
	Auto bool
	Step Step
	// Progress is what the mover last said.
	Progress Progress
	// Error is why the job has stopped, "" while it goes on. A new wish lets it try again.
	Error string
	// Mover names the process that carries the job on, "" if none has yet.
	Mover         string
	Made, Changed time.Time
	generation    int64
	asked         int64 // how often people have asked for something
}

// plan is what is fixed, as it is stored.
type plan struct {
	Goal   Goal         `json:"goal"`
	Moves  []Move       `json:"moves"`
	Joins  []shard.Name `json:"joins,omitempty"`
	Leaves []shard.Name `json:"leaves,omitempty"`
}

// journalSQL creates the journal in the control database. It can be run again.
const journalSQL = `CREATE TABLE IF NOT EXISTS pgtier.job (
	database text NOT NULL REFERENCES pgtier.sharding, number bigint NOT NULL, plan text NOT NULL, wish text NOT NULL, auto boolean NOT NULL,
	step text NOT NULL, progress text NOT NULL DEFAULT '{}', error text NOT NULL DEFAULT '', mover text NOT NULL DEFAULT '', generation bigint NOT NULL DEFAULT 0,
	asked bigint NOT NULL DEFAULT 0, made_at timestamptz NOT NULL DEFAULT now(), changed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (database, number));
CREATE UNIQUE INDEX IF NOT EXISTS job_under_way ON pgtier.job (database) WHERE step NOT IN ('done', 'cancelled');
CREATE SEQUENCE IF NOT EXISTS pgtier.mover_generation;
REVOKE ALL ON pgtier.job, pgtier.mover_generation FROM PUBLIC;
`

// creating is the advisory lock that makes processes create objects one after another; it is shardmap's.
const creating = 0x706774696572

// ErrNoJob says that a database has never had a job.
var ErrNoJob = errors.New("there is no job; pgtier reshard start begins one")

// errSuperseded says that another mover has taken the job over.
var errSuperseded = errors.New("another mover has taken the job over")

// Journal is the table of jobs of one database. Its methods are safe for concurrent use if its querier is.
type Journal struct {
	control  shardmap.Querier
	database string
}

// NewJournal makes one. control asks the control database.
func NewJournal(control shardmap.Querier, database string) *Journal {
	return &Journal{control, database}
}

// prepare creates the table.
func (j *Journal) prepare(ctx context.Context) error {
	err := j.control.Query(ctx, fmt.Sprintf("SELECT pg_catalog.pg_advisory_xact_lock(%d); %s", creating, journalSQL), func([][]byte) error { return nil })
	if err != nil {
		return fmt.Errorf("create the journal of jobs: %w", err)
	}
	return nil
}

// exists reports whether the table is there.
func (j *Journal) exists(ctx context.Context) (is bool, err error) {
	err = j.control.Query(ctx, "SELECT pg_catalog.to_regclass('pgtier.job') IS NOT NULL", func(fields [][]byte) error {
		is = string(fields[0]) == "t"
		return nil
	})
	return is, err
}

// jobQuery is what readJob reads, of a database.
const jobQuery = `SELECT number, plan, wish, auto, step, progress, error, mover, generation, extract(epoch FROM made_at), extract(epoch FROM changed_at), asked
FROM pgtier.job WHERE database = `

// unclean are the cancelled jobs that have left something on a server.
func (j *Journal) unclean(ctx context.Context) (found []*Job, err error) {
	there, err := j.exists(ctx)
	if err == nil && there {
		err = j.control.Query(ctx, jobQuery+literal(j.database)+` AND step = 'cancelled' AND progress LIKE '%"left"%' ORDER BY number`, func(fields [][]byte) error {
			job, err := readJob(j.database, fields)
			if err == nil && len(job.Progress.Left) > 0 {
				found = append(found, job)
			}
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the cancelled jobs of database %s: %w", j.database, err)
	}
	return found, nil
}

// Latest reads the job under way, or the last one; ErrNoJob if there was none.
func (j *Journal) Latest(ctx context.Context) (*Job, error) {
	there, err := j.exists(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the job of database %s: %w", j.database, err)
	}
	if !there {
		return nil, ErrNoJob
	}
	var found *Job
	err = j.control.Query(ctx, jobQuery+literal(j.database)+` ORDER BY number DESC LIMIT 1`, func(fields [][]byte) error {
		var err error
		found, err = readJob(j.database, fields)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the job of database %s: %w", j.database, err)
	}
	if found == nil {
		return nil, ErrNoJob
	}
	return found, nil
}

// readJob reads a row of the table.
func readJob(database string, fields [][]byte) (*Job, error) {
	job := &Job{Database: database, Wish: Wish(fields[2]), Auto: string(fields[3]) == "t", Step: Step(fields[4]), Error: string(fields[6]), Mover: string(fields[7])}
	var p plan
	number, err := strconv.ParseInt(string(fields[0]), 10, 64)
	generation, errGeneration := strconv.ParseInt(string(fields[8]), 10, 64)
	made, errMade := strconv.ParseFloat(string(fields[9]), 64)
	changed, errChanged := strconv.ParseFloat(string(fields[10]), 64)
	asked, errAsked := strconv.ParseInt(string(fields[11]), 10, 64)
	if err := errors.Join(err, errAsked, errGeneration, errMade, errChanged, json.Unmarshal(fields[1], &p), json.Unmarshal(fields[5], &job.Progress)); err != nil {
		return nil, err
	}
	job.Number, job.generation, job.asked = number, generation, asked
	job.Goal, job.Moves, job.Joins, job.Leaves = p.Goal, p.Moves, p.Joins, p.Leaves
	job.Made, job.Changed = seconds(made), seconds(changed)
	return job, nil
}

func seconds(epoch float64) time.Time { return time.UnixMicro(int64(epoch * 1e6)) }

// create writes a new job down, unless one is under way.
func (j *Journal) create(ctx context.Context, p plan, auto bool) (number int64, err error) {
	text, err := json.Marshal(p)
	if err != nil {
		return 0, err
	}
	err = j.control.Query(ctx, fmt.Sprintf(`INSERT INTO pgtier.job (database, number, plan, wish, auto, step)
SELECT %s, 1 + coalesce((SELECT max(number) FROM pgtier.job WHERE database = %[1]s), 0), %s, %s, %t, %s RETURNING number`,
		literal(j.database), literal(string(text)), literal(string(WishStart)), auto, literal(string(StepPlanned))), func(fields [][]byte) error {
		number, err = strconv.ParseInt(string(fields[0]), 10, 64)
		return err
	})
	if sqlState(err) == "23505" { // unique_violation
		return 0, fmt.Errorf("another job of database %s is under way; look at it by pgtier reshard status, and finish or cancel it first", j.database)
	}
	if err != nil {
		return 0, fmt.Errorf("write the job down: %w", err)
	}
	return number, nil
}

// Ask writes down what people want of the job under way, and clears the error that it has stopped with. An error says why it cannot be.
func (j *Journal) Ask(ctx context.Context, wish Wish, auto bool) (*Job, error) {
	job, err := j.Latest(ctx)
	if err != nil {
		return nil, err
	}
	if err := job.may(wish); err != nil {
		return nil, err
	}
	done := false
	err = j.control.Query(ctx, fmt.Sprintf(`UPDATE pgtier.job SET wish = %s, auto = %t, error = '', asked = asked + 1, changed_at = clock_timestamp()
WHERE database = %s AND number = %d AND step = %s RETURNING number`, literal(string(wish)), auto, literal(j.database), job.Number, literal(string(job.Step))), func([][]byte) error {
		done = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write the wish down: %w", err)
	}
	if !done {
		return nil, fmt.Errorf("the job has gone on from step %s meanwhile; look at pgtier reshard status, and try again", job.Step)
	}
	job.Wish, job.Auto, job.Error = wish, auto, ""
	return job, nil
}

// Answered reports whether the mover has counted the groups of Progress since it heard of the last wish. Before, it may cut over or roll back still for the one before.
func (job *Job) Answered() bool { return job.Progress.Asked == job.asked }

// groups is how many groups of buckets the job has.
func (job *Job) groups() (n int) {
	for i := range job.Moves {
		n += len(job.Moves[i].Groups)
	}
	return n
}

// may returns why a wish cannot be.
func (job *Job) may(wish Wish) error {
	cut, all := job.Progress.GroupsDone, job.groups()
	switch {
	case job.Step.over():
		return fmt.Errorf("the last job of database %s (%s) is %s; start another one", job.Database, job.Goal, job.Step)
	case job.Step == StepFinish && wish != WishFinish:
		return fmt.Errorf("the job is being finished, there is no way back; pgtier reshard finish waits for it")
	case job.Step == StepCancel && wish != WishCancel:
		return fmt.Errorf("the job is being cancelled; pgtier reshard cancel waits for it")
	case wish == WishFinish && job.Step == StepFinish:
	case wish == WishFinish && job.Step == StepFollow && cut > 0 && job.Progress.crippled() != "": // there is no other way on
	case wish == WishFinish && (job.Step != StepFollow || cut < all):
		return fmt.Errorf("%d of %d groups of buckets are cut over; finish comes after pgtier reshard cutover", cut, all)
	case wish == WishCancel && cut > 0:
		return fmt.Errorf("%d of %d groups of buckets are cut over already; run pgtier reshard rollback first", cut, all)
	case wish == WishStart && job.Error == "" && job.Wish != WishStart && (job.Wish != WishCutover || cut < all): // it would end what somebody waits for
		return fmt.Errorf("pgtier reshard %s is under way, and start would end it; wait for it, or see pgtier reshard status", job.Wish)
	case wish == WishVerify && job.Step != StepFollow:
		return fmt.Errorf("the job is at step %s; rows can be compared once they are copied", job.Step)
	}
	return nil
}

// lead makes this process the job's mover, with a generation that no other has. The caller holds the mover's lock.
func (j *Journal) lead(ctx context.Context, job *Job, who string) error {
	err := j.control.Query(ctx, fmt.Sprintf(`UPDATE pgtier.job SET mover = %s, generation = nextval('pgtier.mover_generation') WHERE database = %s AND number = %d RETURNING generation`,
		literal(who), literal(j.database), job.Number), func(fields [][]byte) (err error) {
		job.generation, err = strconv.ParseInt(string(fields[0]), 10, 64)
		return err
	})
	if err != nil {
		return fmt.Errorf("take the job over: %w", err)
	}
	job.Mover = who
	return nil
}

// step writes the job's step down.
func (j *Journal) step(ctx context.Context, job *Job) error {
	return j.update(ctx, job, "step = "+literal(string(job.Step))+", changed_at = clock_timestamp()")
}

// say writes down how far a job is, for the mover of a generation.
func (j *Journal) say(ctx context.Context, database string, number, generation int64, p Progress) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return j.update(ctx, &Job{Database: database, Number: number, generation: generation}, "progress = "+literal(string(text)))
}

// stop writes down why the job has stopped. Who asks meanwhile has it tried again.
func (j *Journal) stop(ctx context.Context, job *Job, why error) error {
	job.Error = why.Error()
	return j.update(ctx, job, fmt.Sprintf("error = CASE WHEN asked = %d THEN %s ELSE '' END", job.asked, literal(job.Error)))
}

// fulfil writes down that a wish has come true, and what is wanted from then on, unless people want something else already.
func (j *Journal) fulfil(ctx context.Context, job *Job, next Wish) error {
	err := j.update(ctx, job, fmt.Sprintf("wish = CASE WHEN asked = %d THEN %s ELSE wish END", job.asked, literal(string(next))))
	if err == nil {
		job.Wish = next
	}
	return err
}

// update changes the job's row while it is this mover's.
func (j *Journal) update(ctx context.Context, job *Job, set string) error {
	done := false
	err := j.control.Query(ctx, fmt.Sprintf("UPDATE pgtier.job SET %s WHERE database = %s AND number = %d AND generation = %d RETURNING 1",
		set, literal(j.database), job.Number, job.generation), func([][]byte) error {
		done = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the job down: %w", err)
	}
	if !done {
		return errSuperseded
	}
	return nil
}
