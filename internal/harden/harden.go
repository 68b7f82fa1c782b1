// Package harden makes the process keep its memory to itself: no core dumps, no tracing by other processes of the user, and files that only
// the user can read. It is called once, first thing, by cli.
package harden
