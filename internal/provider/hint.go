package provider

import "strings"

// hintFits compares a hint of the form PREFIX…SUFFIX, with three dots or an ellipsis between, to a value. Both ends must be
// non-empty and together shorter than the value.
func hintFits(hint, value string) bool {
	head, tail, ok := strings.Cut(hint, "...")
	if !ok {
		head, tail, ok = strings.Cut(hint, "…")
	}
	return ok && head != "" && tail != "" && len(head)+len(tail) < len(value) &&
		strings.HasPrefix(value, head) && strings.HasSuffix(value, tail)
}
