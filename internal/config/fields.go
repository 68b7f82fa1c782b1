package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field is what the tags of a struct's field say: yaml (name), help, default, required and enum.
type field struct {
	name, help, def string
	required        bool
	always          bool // shown also when it is zero, since a class may say otherwise
	enum            []string
	index           []int
	typ             reflect.Type
}

// fieldsOf gives the fields of a struct that can stand in a file, in order, those of inlined structs among them.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if strings.Contains(rest, "inline") {
			for _, g := range fieldsOf(f.Type) {
				g.index = append([]int{i}, g.index...)
				out = append(out, g)
			}
			continue
		}
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		var enum []string
		if e := f.Tag.Get("enum"); e != "" {
			enum = strings.Split(e, "|")
		}
		out = append(out, field{
			name: name, help: f.Tag.Get("help"), def: f.Tag.Get("default"), required: f.Tag.Get("required") == "true", always: strings.Contains(rest, "always"),
			enum: enum, index: []int{i}, typ: f.Type,
		})
	}
	return out
}

// parseDuration reads what time.ParseDuration reads, and d (24 hours) and w (7 days) too. It refuses negative lengths.
func parseDuration(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	var total time.Duration
	for rest := s; rest != ""; {
		i := strings.IndexFunc(rest, func(c rune) bool { return (c < '0' || c > '9') && c != '.' })
		if i <= 0 {
			return 0, fmt.Errorf("parse duration: a number and a unit are wanted")
		}
		j := strings.IndexFunc(rest[i:], func(c rune) bool { return c >= '0' && c <= '9' || c == '.' })
		if j < 0 {
			j = len(rest) - i
		}
		number, unit := rest[:i], rest[i:i+j]
		rest = rest[i+j:]
		var part time.Duration
		switch unit {
		case "d", "w":
			f, err := strconv.ParseFloat(number, 64)
			if err != nil {
				return 0, fmt.Errorf("parse duration: %w", err)
			}
			if unit == "w" {
				f *= 7
			}
			if f > 36500 {
				return 0, fmt.Errorf("parse duration: more than 100 years")
			}
			part = time.Duration(f * float64(24*time.Hour))
		default:
			var err error
			if part, err = time.ParseDuration(number + unit); err != nil {
				return 0, err
			}
		}
		if total += part; total > 36500*24*time.Hour || total < 0 || part < 0 {
			return 0, fmt.Errorf("parse duration: more than 100 years")
		}
	}
	if s == "" {
		return 0, fmt.Errorf("parse duration: it is empty")
	}
	return total, nil
}

// formatDuration writes d as a person would: 90d, 24h, 5m, 30s.
func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == 0:
		return "0s"
	case d%day == 0 && d > day:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String() // 24h0m0s
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
