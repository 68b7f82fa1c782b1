package store

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keywright/keywright/internal/fault"
)

const postgresConnections = 8

// sessionDefaults are asked of the server at each connection unless the URL says otherwise. A process that stops in the middle
// of a transaction loses it after ten seconds, so that it cannot hold up the others.
var sessionDefaults = map[string]string{
	"application_name":                    "keywright",
	"synchronous_commit":                  "on",
	"idle_in_transaction_session_timeout": "10000",
	"lock_timeout":                        "5000",
	"tcp_keepalives_idle":                 "10",
	"tcp_keepalives_interval":             "5",
	"tcp_keepalives_count":                "3",
}

// openPostgreSQL makes a pool of connections; none is opened yet. The URL may hold a password and enters no error.
func (s *Store) openPostgreSQL(url string) error {
	s.dialect = postgreSQL
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return fault.New(fault.Invalid, "parse URL: it is malformed", fault.Hint("postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full"))
	}
	for name, value := range sessionDefaults {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	s.db = stdlib.OpenDB(*config)
	s.db.SetMaxOpenConns(postgresConnections)
	s.db.SetMaxIdleConns(postgresConnections)
	return nil
}
