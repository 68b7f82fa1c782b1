package sqlfile

import "github.com/keywright/keywright/internal/fault"

// networkFile is the refusal of a file system where locks and shared memory cannot be trusted.
func networkFile(dir, system string) error {
	return fault.New(fault.Invalid, "check directory "+dir+": it is on a network file system ("+system+")",
		fault.Hint("put the database on a local disk; for the store, the URL of a PostgreSQL database does too"))
}
