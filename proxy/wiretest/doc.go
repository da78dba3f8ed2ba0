// Package wiretest holds the proxy to PostgreSQL byte by byte: conversations in
// testdata run against a server directly and through the proxy, alone and with
// neighbours on the same server connections, and the answers must be the same
// bytes. It has tests only.
//
// What may differ, and is made equal before the comparison:
//
//   - BackendKeyData, which is the proxy's own;
//   - the order of ParameterStatus messages at login;
//   - the process number in a NotificationResponse, and its place before or
//     behind the ReadyForQuery of the statement that sent it;
//   - numbers of tables and types that users made (OIDs from 16384), because
//     every run makes its own;
//   - source file, line and routine of an error that is marked "loosely" in the
//     conversation, and its message: the proxy itself answers there.
//
// The answers stand in the conversations too, to be read; go test -run Golden
// -args -update writes them anew from a direct connection.
package wiretest
