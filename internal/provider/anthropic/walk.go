package anthropic

import (
	"context"

	sdk "github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/packages/pagination"

	"github.com/keywright/keywright/internal/fault"
)

// walk goes through the pages of a report to the last. ask takes the page of a cursor, that of the first page being empty, and gives the cursor
// of the page behind it and whether there is one. Kinds: those of ask, and Unavailable when a page is promised and not given.
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

// reported asks for one page of a report by the SDK. The pager of the SDK ends quietly when a page lacks its cursor, hence page by page.
func reported[T any](ctx context.Context, a *Admin, list func(c sdk.Client) (*pagination.ReportPageCursor[T], error)) (*pagination.ReportPageCursor[T], error) {
	var page *pagination.ReportPageCursor[T]
	if _, err := a.viaSDK(ctx, false, func(c sdk.Client) (err error) {
		page, err = list(c)
		return err
	}); err != nil {
		return nil, err
	}
	if page == nil || !page.JSON.Data.Valid() || !page.JSON.HasMore.Valid() {
		return nil, strange(false)
	}
	return page, nil
}
