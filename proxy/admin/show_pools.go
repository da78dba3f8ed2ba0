package admin

import "time"

func poolColumns() []Column {
	return []Column{
		{"database", Text}, {"user", Text},
		{"cl_active", Int4}, {"cl_waiting", Int4}, {"cl_active_cancel_req", Int4}, {"cl_waiting_cancel_req", Int4},
		{"sv_active", Int4}, {"sv_active_cancel", Int4}, {"sv_being_canceled", Int4}, {"sv_idle", Int4},
		{"sv_used", Int4}, {"sv_tested", Int4}, {"sv_login", Int4},
		{"maxwait", Int4}, {"maxwait_us", Int4}, {"pool_mode", Text}, {"load_balance_hosts", Text},
	}
}

// showPools leaves the counts of cancels at 0: a cancel takes no place in a pool here.
func showPools(k *call) error {
	for _, p := range k.view.Pools() {
		seconds, micros := wait(p.MaxWait)
		k.row(p.Database, p.User, p.ClientsActive, p.ClientsWaiting, 0, 0,
			p.Active, 0, 0, p.Idle, p.Used, p.Tested, p.LoggingIn, seconds, micros, p.Mode, nil)
	}
	return nil
}

// wait splits a time as PgBouncer shows it: seconds, and microseconds below one.
func wait(d time.Duration) (seconds, micros int64) {
	return int64(d / time.Second), (d % time.Second).Microseconds()
}
