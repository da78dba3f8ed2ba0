package demo

// country is a row of countries.
type country struct{ code, name string }

var countries = [...]country{
	{"AT", "Austria"}, {"BR", "Brazil"}, {"CA", "Canada"}, {"CH", "Switzerland"}, {"DE", "Germany"}, {"DK", "Denmark"},
	{"ES", "Spain"}, {"FI", "Finland"}, {"FR", "France"}, {"GB", "United Kingdom"}, {"IE", "Ireland"}, {"IN", "India"},
	{"IT", "Italy"}, {"JP", "Japan"}, {"KE", "Kenya"}, {"MX", "Mexico"}, {"NL", "Netherlands"}, {"NO", "Norway"},
	{"PL", "Poland"}, {"PT", "Portugal"}, {"SE", "Sweden"}, {"US", "United States"},
}

var givenNames = [...]string{
	"Ada", "Alan", "Amara", "Anders", "Anja", "Aoife", "Arjun", "Beatriz", "Björn", "Carmen", "Chidi", "Chloé", "Daniel",
	"Diego", "Elena", "Emeka", "Emma", "Fatima", "Femke", "Grace", "Hana", "Hugo", "Ingrid", "Isabel", "Jonas", "Juma",
	"Kaito", "Kasia", "Lars", "Leila", "Linus", "Lucía", "Mads", "Margaret", "Matteo", "Mei", "Mona", "Nadia", "Niamh",
	"Noah", "Olga", "Oscar", "Paolo", "Priya", "Rahul", "Rosa", "Sakura", "Samir", "Sofia", "Sven", "Tariq", "Tomás",
	"Ursula", "Vera", "Wanjiru", "Yara", "Yuki", "Zoë",
}

var familyNames = [...]string{
	"Almeida", "Andersson", "Bauer", "Becker", "Bergström", "Brown", "Castillo", "Costa", "Dubois", "Eze", "Fernández",
	"Fischer", "Garcia", "Hansen", "Haddad", "Hopper", "Ito", "Jansen", "Johansson", "Kamau", "Khan", "Kowalski", "Larsen",
	"Lindqvist", "Lovelace", "Martin", "Meyer", "Moreau", "Murphy", "Mwangi", "Nakamura", "Nielsen", "Novak", "O'Brien",
	"Okafor", "Olsen", "Patel", "Petrov", "Ricci", "Rossi", "Sato", "Schmidt", "Silva", "Singh", "Smith", "Suzuki",
	"Tanaka", "Turing", "van Dijk", "Virtanen", "Walker", "Weber", "Wójcik", "Yamamoto",
}

// category is a kind of product: its prices lie between cheapest and dearest, in cents.
type category struct {
	name              string
	cheapest, dearest int64
	things            []string
}

var categories = [...]category{
	{"books", 600, 6000, []string{"Novel", "Atlas", "Cookbook", "Field Guide", "Poetry Collection"}},
	{"kitchen", 900, 25000, []string{"Kettle", "Skillet", "Teapot", "Knife", "Coffee Grinder"}},
	{"garden", 500, 30000, []string{"Trowel", "Lantern", "Bench", "Watering Can", "Bird House"}},
	{"office", 200, 60000, []string{"Notebook", "Desk Lamp", "Chair", "Fountain Pen", "Monitor Stand"}},
	{"outdoor", 1500, 80000, []string{"Tent", "Backpack", "Headlamp", "Sleeping Bag", "Camp Stove"}},
	{"music", 1000, 150000, []string{"Ukulele", "Headphones", "Metronome", "Turntable", "Kalimba"}},
}

var materials = [...]string{"Oak", "Copper", "Linen", "Granite", "Walnut", "Steel", "Wool", "Bamboo", "Brass", "Cork"}

var styles = [...]string{"Compact", "Classic", "Nordic", "Travel", "Studio", "Handmade", "Folding", "Grand"}

var (
	paymentMethods = [...]string{"card", "card", "card", "invoice", "paypal", "bank"} // repeated ones are more frequent
	eventKinds     = [...]string{"login", "search", "view", "view", "view", "cart", "logout"}
	themes         = [...]string{"light", "dark", "system"}
	plans          = [...]string{"free", "free", "free", "free", "pro", "pro", "business"}
)
