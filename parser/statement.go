package parser

// Effects is a set of things that a statement does to the session or the transaction. The zero value is the plain
// SELECT, INSERT, UPDATE or DELETE that touches neither (an INSERT may still have AdvancesSequence).
type Effects uint64

const (
	BeginsTransaction  Effects = 1 << iota // BEGIN, START TRANSACTION
	EndsTransaction                        // COMMIT, ROLLBACK, PREPARE TRANSACTION
	TransactionControl                     // any transaction statement, savepoints and two-phase ones included
	ChangesSettings                        // Settings is not empty
	ResetsAll                              // RESET ALL
	DiscardsAll                            // DISCARD ALL
	DiscardsPlans                          // DISCARD PLANS
	DiscardsTemp                           // DISCARD TEMP
	DiscardsSequences                      // DISCARD SEQUENCES
	SQLPrepare                             // PREPARE
	SQLExecute                             // EXECUTE, also inside EXPLAIN and CREATE TABLE AS
	SQLDeallocate                          // DEALLOCATE name and DEALLOCATE ALL
	Listens                                // LISTEN
	Unlistens                              // UNLISTEN name and UNLISTEN *
	Notifies                               // NOTIFY, pg_notify()
	AdvancesSequence                       // nextval, setval, or a write whose defaults may call nextval
	ReadsSequenceState                     // currval, lastval: they answer from this connection's past
	ReadsSessionViews                      // pg_prepared_statements, pg_cursors, pg_listening_channels()
	DDL                                    // changes the catalog
	CopyIn                                 // COPY FROM STDIN
	CopyOut                                // COPY TO STDOUT
	LocksRows                              // SELECT FOR UPDATE and its kind
	LocksTable                             // LOCK TABLE
	LocksTransaction                       // advisory locks that end with the transaction
	UsesCursor                             // DECLARE, FETCH, MOVE, CLOSE
	RunsOpaqueCode                         // DO, CALL, EXECUTE: code that is not in the text
	Writes                                 // changes rows: INSERT, UPDATE, DELETE, MERGE (also in a WITH), COPY FROM, TRUNCATE
	TempOnCommitDrop                       // makes a temporary table that COMMIT drops; it has no Pin, see Command.Effects
)

// Kind is what a command is, by its outermost statement. The zero value is Other.
type Kind uint8

const (
	Other Kind = iota
	Select
	Insert
	Update
	Delete
	Merge
	Begin
	Commit
	Rollback
	Savepoint
	RollbackTo
	Release
	PrepareTransaction
	CommitPrepared
	RollbackPrepared
	Set
	Reset
	ResetAll
	SetTransaction // SET TRANSACTION …: ends with the transaction
	SetConstraints
	Show
	DiscardAll
	DiscardPlans
	DiscardSequences
	DiscardTemp
	Prepare
	Execute
	Deallocate
	DeallocateAll
	Listen
	Unlisten
	UnlistenAll
	Notify
	Copy
	SchemaChange // any statement that changes the catalog; its Effects have DDL
	Declare
	Fetch // also MOVE
	Close
	CloseAll
	Do
	Call
	Explain
	Vacuum // also ANALYZE
	Lock
	Load
	Truncate
	Checkpoint
	Refresh // REFRESH MATERIALIZED VIEW
	Reindex // also CLUSTER
	Import  // IMPORT FOREIGN SCHEMA
	numKinds
)

var kindNames = [numKinds]string{
	"other", "select", "insert", "update", "delete", "merge", "begin", "commit", "rollback", "savepoint",
	"rollback to", "release", "prepare transaction", "commit prepared", "rollback prepared", "set", "reset",
	"reset all", "set transaction", "set constraints", "show", "discard all", "discard plans",
	"discard sequences", "discard temp", "prepare", "execute", "deallocate", "deallocate all", "listen",
	"unlisten", "unlisten all", "notify", "copy", "schema change", "declare", "fetch", "close", "close all",
	"do", "call", "explain", "vacuum", "lock", "load", "truncate", "checkpoint", "refresh", "reindex", "import",
}

// String is the kind in lower case, for logs and tests.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return "unknown"
}

// Statement holds the facts of one SQL text. It is immutable, shared by all clients and valid for ever.
type Statement struct {
	// Template is the text with its literals replaced by $s (string), $n (four-byte integer), $f (other number), $b (bits) and $c (national string), or the
	// whole text where literals matter. It is empty for texts above MaxText.
	Template string
	// Unparsed says that the grammar rejected the text. The server most likely will too and is the one to say so.
	Unparsed bool
	// Conforming says that the facts hold only while standard_conforming_strings is on, because a plain literal has a backslash, or in a client_encoding whose
	// characters beyond ASCII have no ASCII bytes, because a literal with escapes has one behind such a byte.
	Conforming bool
	// Commands are the statements of the text in order; none for an empty query. Unparsed texts have at most one, of kind Other.
	Commands []Command
	// Effects is the union of the commands' effects.
	Effects Effects
	// Pin is the first command's reason to keep the connection, "" if none has one.
	Pin string
	// Literals says that the text has quoted literals of any kind, whose reading may depend on settings such as TimeZone, or that
	// nobody can say.
	Literals bool
	// Hints are those of the comments that lead the text, in order; HintError says what is wrong with one.
	Hints     []Hint
	HintError string
	// TimeWords says that a literal which the template keeps may name a time that the clock decides (see TimeWord), or is written with escapes
	// that may spell one. Of literals that the template takes out, each text has its own.
	TimeWords bool
	// Plain says that the text shows nothing that a session has to follow, check or mend: reads and writes of rows, and where
	// transactions begin and end. It may still advance a sequence, and the catalog may know more.
	Plain bool
}

// Command holds the facts of one statement of a text.
type Command struct {
	Kind Kind
	// Effects: TempOnCommitDrop is not a pin inside an explicit transaction block; outside one the table is gone at once.
	Effects Effects
	// Chain: COMMIT or ROLLBACK AND CHAIN.
	Chain bool
	// Settings are lower-case names of settings that may differ after the transaction. SET LOCAL gives none.
	Settings []string
	// Channel of LISTEN, UNLISTEN and NOTIFY, as the server folds it.
	Channel string
	// Name of the prepared statement of PREPARE, EXECUTE and DEALLOCATE, of the savepoint, the cursor, the two-phase
	// transaction, or the setting that SHOW shows, as the server folds it.
	Name string
	// NameStart and NameEnd are byte offsets in the text of a prepared statement's name as written, with its quotes; both 0 if
	// there is none.
	NameStart, NameEnd int
	// Prepared holds the facts of PREPARE's inner statement. They count whenever the name is executed, so they are in no union here.
	Prepared *Command
	// BodyStart and BodyEnd are byte offsets in the text of PREPARE's inner statement; both 0 for other kinds.
	BodyStart, BodyEnd int
	// Functions are the names, last part, of functions called that are not built in and harmless.
	Functions []string
	// Builtins are the names of harmless built-in functions called without a schema: a function of the same name
	// with other argument types may hide behind one.
	Builtins []string
	// Relations are the last parts of the tables, views and sequences named, each once, in no order. Names of WITH queries are among them.
	Relations []string
	// Pin is the reason why a shared connection cannot carry the session state this makes, "" if none.
	Pin string

	// Locals are the lower-case names of settings that the statement changes for its transaction only: SET LOCAL, set_config(…, true)
	// with a literal name, and SET of a transaction's own settings such as transaction_read_only. LocalsAny: names that the text does
	// not show, as in DO.
	Locals    []string
	LocalsAny bool
	// Restores are the lower-case names of settings that the statement may set to what they were at login: RESET, SET [LOCAL] … TO
	// DEFAULT, and set_config with anything but a literal value. RestoresAny: names that the text does not show, and RESET ALL.
	Restores    []string
	RestoresAny bool

	// Tables are the uses of relations, in no order: a table that is named twice is there twice. What a view, a trigger, a foreign key
	// or a called function touches is not in the text. Incomplete says that the text hides more than that: DO, CALL, EXECUTE, FETCH, a
	// text that the grammar rejects, functions such as table_to_xml(), CASCADE, VACUUM of everything, and all DDL but CREATE of tables,
	// views, indexes and sequences.
	Tables     []Table
	Incomplete bool
	// Calls are the functions called, each once, with those that syntax such as EXTRACT or LIKE … ESCAPE stands for and the methods
	// of TABLESAMPLE. CURRENT_DATE and its kind, COALESCE, GREATEST, XML and JSON constructors are none.
	Calls []Called
	// Keywords are CURRENT_DATE and its kind, in lower case and without precision, each once: current_date, current_time,
	// current_timestamp, localtime, localtimestamp, current_role, current_user, user, session_user, current_catalog, current_schema.
	Keywords []string
	// SystemColumns are the columns named that rows have beside those of their table, each once: ctid, xmin, cmin, xmax, cmax, tableoid.
	SystemColumns []string
	// Samples: TABLESAMPLE. Extracts: XMLTABLE, whose columns are read from text.
	Samples, Extracts bool
	// Casts are those of anything but constants and parameters, also as date(x) and its kind, each once.
	Casts []Cast
	// Derived are the names of columns that sub-selects, WITH queries and aliases make, each once: a column of such a name need not be a
	// table's. A * among them stands for names that the text does not show, such as those of a function's columns.
	Derived []string
	// Operators are those that expressions name, each once. IN, CASE … WHEN, NATURAL, USING and NULLIF name =, BETWEEN names >= and <=,
	// LIKE names ~~. What ORDER BY, DISTINCT, GROUP BY and UNION compare by is a matter of types. They are not of pg_catalog alone: a
	// name may be anyone's.
	Operators []Named
	// Types are those of casts and literals written with their type, and of columns that the text defines, each once. That of an array is
	// its element's.
	Types []Named
	// Attributes are the names written behind a dot, each once. The server takes one for a function of the row if there is no such column.
	Attributes []string
	// Compared are the columns compared with constants and parameters.
	Compared []Comparison
	// Inserted is what an INSERT of VALUES inserts, nil for other statements, for more than 128 values, and for an INSERT inside WITH.
	Inserted *Insertion
	// Sets are the columns that the outermost UPDATE, or ON CONFLICT DO UPDATE of the outermost INSERT, sets.
	Sets []string
	// Conflicts: the outermost INSERT has ON CONFLICT DO UPDATE.
	Conflicts bool
	// Single: the statement is a SELECT of which each row of the answer is made of one row of Tables[0], the only table, unless an aggregate is
	// called. There is no other query in it, no GROUP BY and no HAVING.
	Single bool
	// Transaction is what Begin and SetTransaction ask for.
	Transaction Transaction
	// Assigned is what a SET or RESET of one setting assigns; its Name is "" for other statements and for lists.
	Assigned Assignment
	// Configured are the calls of set_config with three arguments, in the order of the text.
	Configured []Configuration
	// Explained are the facts of the statement inside EXPLAIN, Analyze that it is carried out.
	Explained *Command
	Analyze   bool
}
