package admin

import (
	"fmt"
	"time"
)

func socketColumns() []Column {
	return []Column{
		{"type", Text}, {"user", Text}, {"database", Text}, {"replication", Text}, {"state", Text},
		{"addr", Text}, {"port", Int4}, {"local_addr", Text}, {"local_port", Int4},
		{"connect_time", Text}, {"request_time", Text}, {"wait", Int4}, {"wait_us", Int4}, {"close_needed", Int4},
		{"ptr", Text}, {"link", Text}, {"remote_pid", Int4}, {"tls", Text}, {"application_name", Text},
		{"prepared_statements", Int4}, {"id", Int4},
	}
}

// rawSocketColumns has the places in PgBouncer's buffers too. There are no such
// buffers here, so they are 0.
func rawSocketColumns() []Column {
	columns := socketColumns()
	for _, name := range []string{"recv_pos", "pkt_pos", "pkt_remain", "send_pos", "send_remain", "pkt_avail", "send_avail"} {
		columns = append(columns, Column{name, Int4})
	}
	return columns
}

// The sides of a connection, which make a pointer unique: clients and servers are numbered apart.
const (
	client = "C"
	server = "S"
)

// pointer stands for PgBouncer's address of a connection's record.
func pointer(side string, id uint64) string {
	if id == 0 {
		return ""
	}
	if side == server {
		return fmt.Sprintf("0x5%011x", id)
	}
	return fmt.Sprintf("0xc%011x", id)
}

// moment is a time as PgBouncer prints it, local and exact to the second.
func moment(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.Format("2006-01-02 15:04:05 MST")
}

func socketRow(side string, s *Socket) []any {
	other := server
	if side == server {
		other = client
	}
	seconds, micros := wait(s.Wait)
	return []any{
		side, s.User, s.Database, s.Replication, s.State, s.Addr, s.Port, s.LocalAddr, s.LocalPort,
		moment(s.Connected), moment(s.Requested), seconds, micros, s.CloseNeeded,
		pointer(side, s.ID), pointer(other, s.Link), s.PID, s.TLS, s.AppName, s.Prepared, s.ID,
	}
}

func showClients(k *call) error {
	for _, s := range k.view.Clients() {
		k.row(socketRow(client, &s)...)
	}
	return nil
}

func showServers(k *call) error {
	for _, s := range k.view.Servers() {
		k.row(socketRow(server, &s)...)
	}
	return nil
}

func showSockets(k *call) error { return sockets(k, func(*Socket) bool { return true }) }

func showActiveSockets(k *call) error {
	return sockets(k, func(s *Socket) bool { return s.State == "active" })
}

func sockets(k *call, wanted func(*Socket) bool) error {
	for _, side := range []struct {
		name string
		all  []Socket
	}{{client, k.view.Clients()}, {server, k.view.Servers()}} {
		for _, s := range side.all {
			if wanted(&s) {
				k.row(append(socketRow(side.name, &s), 0, 0, 0, 0, 0, 0, 0)...)
			}
		}
	}
	return nil
}

// noFDs: PgBouncer hands its sockets to its successor this way.
func noFDs(*call) error {
	return unsupported("SHOW FDS", "Sockets are not handed over; SHOW SOCKETS lists them.")
}
