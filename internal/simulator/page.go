package simulator

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// query returns the query parameters after checking their names. Names that
// end in "[]" may repeat, others may not. The SDKs' beta=true is ignored.
func query(r *http.Request, known ...string) (url.Values, *apiError) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query string is malformed")
	}
	delete(q, "beta")
	for name, values := range q {
		if !slices.Contains(known, name) {
			return nil, invalid(clip(name) + ": unknown query parameter")
		}
		if !strings.HasSuffix(name, "[]") && len(values) > 1 {
			return nil, invalid(name + ": given more than once")
		}
	}
	return q, nil
}

// limitOf reads the limit parameter.
func limitOf(q url.Values, standard, most int) (int, *apiError) {
	v := q.Get("limit")
	if v == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		return 0, invalid("limit: must be between 1 and " + strconv.Itoa(most))
	}
	return n, nil
}

// cursored is the envelope of lists that are paged by id.
type cursored[T any] struct {
	Data    []T     `json:"data"`
	HasMore bool    `json:"has_more"`
	FirstID *string `json:"first_id"`
	LastID  *string `json:"last_id"`
}

// cursorPage cuts the page that limit, after_id and before_id ask for. With
// before_id, has_more tells of more entries before the page.
func cursorPage[T any](q url.Values, all []T, id func(T) string, standard, most int) (cursored[T], *apiError) {
	limit, fail := limitOf(q, standard, most)
	if fail != nil {
		return cursored[T]{}, fail
	}
	after, before := q.Get("after_id"), q.Get("before_id")
	if after != "" && before != "" {
		return cursored[T]{}, invalid("after_id and before_id cannot be combined")
	}
	find := func(cursor string) int { return slices.IndexFunc(all, func(v T) bool { return id(v) == cursor }) }
	from, to := 0, len(all)
	switch {
	case after != "":
		i := find(after)
		if i < 0 {
			return cursored[T]{}, invalid("after_id: not found")
		}
		from = i + 1
	case before != "":
		i := find(before)
		if i < 0 {
			return cursored[T]{}, invalid("before_id: not found")
		}
		to = i
	}
	p := cursored[T]{}
	if before != "" {
		p.HasMore = to-from > limit
		from = max(from, to-limit)
	} else {
		p.HasMore = to-from > limit
		to = min(to, from+limit)
	}
	p.Data = append([]T{}, all[from:to]...)
	if len(p.Data) > 0 {
		first, last := id(p.Data[0]), id(p.Data[len(p.Data)-1])
		p.FirstID, p.LastID = &first, &last
	}
	return p, nil
}

// offsetOf reads the opaque page token of the reports.
func offsetOf(q url.Values) (int, *apiError) {
	v := q.Get("page")
	if v == "" {
		return 0, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(v)
	if err == nil {
		if digits, ok := strings.CutPrefix(string(raw), "page:"); ok {
			if n, err := strconv.Atoi(digits); err == nil && n > 0 && n < 1<<30 {
				return n, nil
			}
		}
	}
	return 0, invalid("page: is not a page token of this report")
}

func pageToken(offset int) *string {
	v := base64.RawURLEncoding.EncodeToString([]byte("page:" + strconv.Itoa(offset)))
	return &v
}

// clip bounds a caller's text that goes into an error message.
func clip(v string) string {
	if len(v) > 100 {
		return v[:100] + "..."
	}
	return v
}
