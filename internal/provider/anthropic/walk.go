package anthropic

import "github.com/keywright/keywright/internal/fault"

// walk goes through the pages of a report to the last, since the pager of the SDK ends quietly when a page lacks its cursor. ask takes the page of a cursor, that of the first page being empty, and gives the cursor
// of the page behind it and whether there is one. Kinds: those of ask, and Unavailable when a page is promised and not given.
//
// What asks for a page of the SDK is not shared as well: a function over any type of page makes the linker keep 11 MB of the SDKs' methods.
func walk(ask func(cursor string) (next string, more bool, err error)) error {
	seen := map[string]bool{"": true}
	cursor := ""
	for range maxPages {
		next, more, err := ask(cursor)
		if err != nil || !more {
			return err
		}
		if seen[next] {
			break
		}
		seen[next] = true
		cursor = next
	}
	return fault.New(fault.Unavailable, "read report: the provider says there are more pages, and does not give them")
}
