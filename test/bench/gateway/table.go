package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bench makes the rows of the table. Each row has a gateway and an imitation of its own.
type bench struct {
	cost
	size   int // of a hundred
	binary string
	dir    string
}

// of gives a part of a full size, at least least.
func (b *bench) of(full, least int) int { return max(full*b.size/100, least) }

// begin starts a gateway in front of an imitation. The keys are the primary one and the backups.
func (b *bench) begin(ctx context.Context, row int, p *provider, keys ...*account) (*process, error) {
	return start(ctx, b.binary, filepath.Join(b.dir, "row-"+strconv.Itoa(row)), p.url, keys)
}

// figure is one thing that was counted.
type figure struct {
	what, got string
	bar       string // empty: it is told and not judged
	met       bool
	speed     bool // depends on the machine, so that it does not end the program with 1
}

// none is a figure that has to be 0 of so many; why says what the others are.
func none(what string, n, of int, why string) figure {
	got := fmt.Sprintf("%d of %d", n, of)
	if why != "" {
		got += " (" + why + ")"
	}
	return figure{what: what, got: got, bar: "0", met: n == 0 && of > 0}
}

// all is a figure that has to be everything.
func all(what string, n, of int, why string) figure {
	f := none(what, n, of, why)
	f.bar, f.met = "all", n == of && of > 0
	return f
}

func told(what, format string, args ...any) figure {
	return figure{what: what, got: fmt.Sprintf(format, args...)}
}

// rows are the targets that are measured here. The others: 6 is BenchmarkAdd and TestKill of internal/gateway/queue, 7 the table of internal/verdict, 9
// the soak.
func (b *bench) rows() map[int]func(context.Context) ([]figure, error) {
	return map[int]func(context.Context) ([]figure, error){1: b.costs, 2: b.swaps, 3: b.dead, 4: b.errorEvents, 5: b.cuts, 8: b.canary}
}

// errNotMet ends the program with 1.
var errNotMet = errors.New("not every row on behaviour is met")

// print makes rows and prints each when it is there.
func (b *bench) print(ctx context.Context, out io.Writer, wanted []int) error {
	const form = "%-4s%-80s  %-10s %-8s %s\n"
	fmt.Fprintf(out, form, "row", "what was counted", "bar", "", "measured")
	var errs []error
	bad := false
	for _, n := range wanted {
		figures, err := b.rows()[n](ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the other rows do not depend on it
			errs = append(errs, fmt.Errorf("row %d: %w", n, err))
			fmt.Fprintf(out, form, strconv.Itoa(n), "could not be measured", "", "NOT MET", "")
		}
		for _, f := range figures {
			word := "met"
			switch {
			case f.bar == "":
				word = ""
			case !f.met:
				word = "NOT MET"
				bad = bad || !f.speed
			}
			fmt.Fprintf(out, form, strconv.Itoa(n), f.what, f.bar, word, f.got)
		}
	}
	if bad {
		errs = append(errs, errNotMet)
	}
	return errors.Join(errs...)
}

// parseRows reads "2,3,5" or an empty text for all.
func (b *bench) parseRows(text string) (list []int, err error) {
	known := b.rows()
	for word := range strings.SplitSeq(text, ",") {
		if word == "" {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || known[n] == nil {
			return nil, fmt.Errorf("there is no row %q; there are 1, 2, 3, 4, 5 and 8", word)
		}
		list = append(list, n)
	}
	if len(list) == 0 {
		for n := range known {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// costs is row 1.
func (b *bench) costs(ctx context.Context) (list []figure, err error) {
	judged := func(what, got, bar string, met bool) {
		list = append(list, figure{what: what, got: got, bar: bar, met: met, speed: true})
	}
	err = b.cost.run(ctx, b.binary, filepath.Join(b.dir, "row-1"), func(s scene) {
		at := fmt.Sprintf(", %d connections", s.connections)
		ratio := fmt.Sprintf("%.2f (rounds %.2f to %.2f, middle %.2f)", s.ratio, s.ratios[0], s.ratios[len(s.ratios)-1], s.ratios[len(s.ratios)/2])
		if s.connections == 16 || s.connections == 128 {
			judged("processor time to that of a bare proxy"+at, ratio, "1.25", s.ratio <= 1.25)
		} else {
			list = append(list, told("processor time to that of a bare proxy"+at, "%s", ratio))
		}
		added := s.added.Round(time.Microsecond).String()
		if s.connections == 1 {
			judged("time added, in the middle"+at, added, "500µs", s.added <= 500*time.Microsecond)
		} else {
			list = append(list, told("time added, in the middle"+at, "%s", added))
		}
		pss := fmt.Sprintf("%.1f MiB", mib(s.pss))
		if s.connections == 512 {
			judged("memory (PSS)"+at, pss, "64 MiB", s.pss <= 64<<20)
		} else {
			list = append(list, told("memory (PSS)"+at, "%s", pss))
		}
	})
	return list, err
}
