package balance

import "testing"

func TestLSNIsReadAndPrintedAsPostgreSQLDoes(t *testing.T) {
	for text, want := range map[string]LSN{
		"0/0": 0, "16/B374D848": 0x16B374D848, "FFFFFFFF/FFFFFFFF": 1<<64 - 1, "0/3000028": 0x3000028, "1/0": 1 << 32,
	} {
		got, err := ParseLSN(text)
		if err != nil || got != want {
			t.Errorf("ParseLSN(%q) = %d, %v, want %d", text, got, err, want)
		}
		if got.String() != text {
			t.Errorf("%d prints %q, want %q", want, got, text)
		}
	}
	if got, err := ParseLSN("16/b374d848"); err != nil || got != 0x16B374D848 {
		t.Errorf("lower case: got %v, %v", got, err)
	}
	for _, text := range []string{"", "/", "1/", "/1", "1", "1/2/3", "+1/2", "1/-2", "x/0", "0/ 1", "123456789/0", "0/123456789"} {
		if got, err := ParseLSN(text); err == nil {
			t.Errorf("ParseLSN(%q) = %v, want an error", text, got)
		}
	}
}

func FuzzParseLSN(f *testing.F) {
	f.Add("16/B374D848")
	f.Fuzz(func(t *testing.T, text string) {
		lsn, err := ParseLSN(text)
		if err != nil {
			return
		}
		if again, err := ParseLSN(lsn.String()); err != nil || again != lsn {
			t.Errorf("%q became %v, then %v, %v", text, lsn, again, err)
		}
	})
}

func TestPolicyWords(t *testing.T) {
	for policy := LeastLatency; policy <= Weighted; policy++ {
		if got, err := ParsePolicy(policy.String()); err != nil || got != policy {
			t.Errorf("ParsePolicy(%q) = %v, %v", policy, got, err)
		}
	}
	if got, err := ParsePolicy("least"); err == nil {
		t.Errorf("ParsePolicy(least) = %v, want an error", got)
	}
}
