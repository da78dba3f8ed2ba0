package admin

import (
	"strings"

	"pgtier/proxy/wire"
)

// clientSettings are what drivers and pools set on every connection. They mean
// nothing here, and an error would keep the tools away.
func clientSettings() string {
	return "|CLIENT_ENCODING|DEFAULT_TRANSACTION_ISOLATION|STANDARD_CONFORMING_STRINGS|DATESTYLE|TIMEZONE|TIME|NAMES" +
		"|EXTRA_FLOAT_DIGITS|APPLICATION_NAME|SEARCH_PATH|STATEMENT_TIMEOUT|LOCK_TIMEOUT|IDLE_IN_TRANSACTION_SESSION_TIMEOUT" +
		"|BYTEA_OUTPUT|INTERVALSTYLE|CLIENT_MIN_MESSAGES|LC_MONETARY|SSL_RENEGOTIATION_LIMIT|"
}

// set ignores settings of the client's session. Those of the proxy live in its
// file: a value that RELOAD or a restart loses would surprise.
func set(k *call) error {
	words := split(k.arg)[0].words[1:]
	if len(words) > 0 && !words[0].symbol && oneOf("|SESSION|LOCAL|", words[0].text) {
		words = words[1:]
	}
	if len(words) < 2 || words[0].symbol {
		return invalid(k.arg)
	}
	if oneOf(clientSettings(), words[0].text) {
		k.notice("SET ignored")
		return nil
	}
	return wire.NewError(wire.CodeFeatureNotSupported, "SET "+strings.ToLower(shorten(words[0].text))+" is not supported",
		"Edit the configuration file and RELOAD.")
}
