package config

import (
	"context"
	"path/filepath"
	"reflect"
	"regexp"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// Prices is a dated table of what models cost.
type Prices struct {
	Date     string           `yaml:"date" required:"true" help:"The day on which the prices were looked up, as YYYY-MM-DD."`
	Currency string           `yaml:"currency" required:"true" help:"Such as USD. Budgets are in the same."`
	Batch    float64          `yaml:"batch" default:"1" help:"The part of a price that a message of a batch costs, such as 0.5."`
	Models   map[string]Price `yaml:"models" required:"true" help:"Prices by name of model, or by class: haiku, sonnet, opus. The exact name wins."`
}

// Price is what a million tokens cost.
type Price struct {
	Input  float64 `yaml:"input" required:"true" help:"A million tokens in."`
	Output float64 `yaml:"output" required:"true" help:"A million tokens out."`
}

// Age says how long ago, at a time, the prices were looked up.
func (p Prices) Age(at time.Time) time.Duration {
	day, err := time.Parse(time.DateOnly, p.Date)
	if err != nil {
		return 0
	}
	return at.Sub(day)
}

var currencyRE = regexp.MustCompile(`^[A-Z]{3}$`)

// ReadPrices reads a table of prices, as strictly as a configuration. The error is *Errors, or one of reading the file.
func ReadPrices(_ context.Context, path string) (Prices, error) {
	var p Prices
	abs, err := filepath.Abs(path)
	if err != nil {
		return p, fault.Wrap(fault.Invalid, err, "read prices")
	}
	text, err := readTrusted(abs)
	if err != nil {
		return p, fault.In(err, "read prices")
	}
	l := &loader{reader: newReader(), lone: true}
	l.parse(path, abs, text)
	if d := l.docs[0]; d.body != nil {
		l.at(d)
		l.prefill(reflect.ValueOf(&p))
		l.value(d.body, reflect.ValueOf(&p).Elem(), at{what: "the prices"})
		p.judge(l.reader)
	}
	l.sorted()
	if len(l.problems) > 0 {
		return p, &Errors{Problems: l.problems, More: l.more}
	}
	return p, nil
}

func (p Prices) judge(r *reader) {
	if len(r.problems) > 0 {
		return
	}
	if _, err := time.Parse(time.DateOnly, p.Date); err != nil {
		r.badAt(".date", "such as 2026-11-01", `"date" in the prices is no day`)
	}
	if !currencyRE.MatchString(p.Currency) {
		r.badAt(".currency", "such as USD", `"currency" in the prices has not three capital letters`)
	}
	if p.Batch <= 0 || p.Batch > 1 {
		r.badAt(".batch", "such as 0.5", `"batch" in the prices is more than 0 and at most 1`)
	}
	for name, price := range p.Models {
		if price.Input < 0 || price.Output < 0 {
			r.badAt(".models."+name, "", "the price of %s is less than nothing", quote(name))
		}
	}
}
