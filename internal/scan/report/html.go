package report

import (
	"html/template"
	"io"
)

// HTML writes the report as one page that loads nothing.
func (r *Report) HTML(w io.Writer) error {
	t, err := template.New("report").Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, r.view())
}

type htmlView struct {
	Summary, Started, Version string
	Complete                  bool
	Keys, Ignored             []htmlKey
	Gaps, Unopened, Notes     []string
}

type htmlKey struct {
	ID, Name, Grade, Standing, Whose, Hint, Why string
	Live                                        bool
	Places                                      []htmlPlace
	More                                        string
	Exposure, Usage, Next                       []string
}

type htmlPlace struct{ Where, Detail string }

func (r *Report) view() htmlView {
	v := htmlView{Summary: r.Summary(), Started: stamp(r.Started), Version: r.Version, Complete: r.Complete, Notes: r.Notes}
	for i := range r.Keys {
		k := &r.Keys[i]
		h := htmlKey{ID: string(k.Fingerprint), Name: k.Name(), Grade: k.Grade.String(), Standing: k.Standing(), Whose: k.Whose(), Hint: k.Hint, Live: k.Live()}
		if !k.Counts() {
			h.Why = k.Ignored.words()
			v.Ignored = append(v.Ignored, h)
			continue
		}
		for _, p := range k.Places {
			h.Places = append(h.Places, htmlPlace{p.Where(), p.Detail()})
		}
		if k.MorePlaces > 0 {
			h.More = count(k.MorePlaces, "place") + " more"
		}
		for _, e := range k.Exposure {
			for _, l := range e.Story() {
				if !e.Repository.IsZero() {
					l = e.Repository.s + ": " + l
				}
				h.Exposure = append(h.Exposure, l)
			}
		}
		if k.Usage != nil {
			h.Usage = k.Usage.Story()
		}
		h.Next = k.Next()
		v.Keys = append(v.Keys, h)
	}
	v.Gaps, v.Unopened = phrases(r.Gaps, r.MoreGaps), phrases(r.Unopened, r.MoreUnopened)
	return v
}

func phrases(gaps []Gap, more int) (all []string) {
	for _, g := range gaps {
		all = append(all, g.phrase())
	}
	if more > 0 {
		all = append(all, count(more, "part")+" more")
	}
	return all
}

const page = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Scan for keys</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}
h2{font-size:1.1rem;margin:2rem 0 0}
code,td:first-child{font-family:ui-monospace,monospace;font-size:.9rem;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
td{border-top:1px solid #d0d0d0;padding:.2rem .5rem .2rem 0;vertical-align:top}
.live{color:#a40000;font-weight:600}
.warn{color:#7a4a00;font-weight:600}
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}td{border-color:#444}.live{color:#ff8a80}.warn{color:#ffc46b}}
</style>
</head>
<body>
<h1>Scan for keys</h1>
<p{{if not .Complete}} class="warn"{{end}}>{{.Summary}}</p>
<p>Scanned {{.Started}} with keywright {{.Version}}.</p>
{{range .Keys}}<h2><code>{{.ID}}</code> {{.Name}}</h2>
<p>{{.Grade}} · <span{{if .Live}} class="live"{{end}}>{{.Standing}}</span>{{if .Whose}} · {{.Whose}}{{end}}{{if .Hint}} · <code>{{.Hint}}</code>{{end}}</p>
<table>{{range .Places}}<tr><td>{{.Where}}</td><td>{{.Detail}}</td></tr>{{end}}{{if .More}}<tr><td colspan="2">{{.More}}</td></tr>{{end}}</table>
{{if .Exposure}}<ul>{{range .Exposure}}<li>{{.}}</li>{{end}}</ul>{{end}}
{{if .Usage}}<p>Usage since it was exposed:</p>
<ul>{{range .Usage}}<li>{{.}}</li>{{end}}</ul>
{{end}}<p>What to do, in this order:</p>
<ol>{{range .Next}}<li>{{.}}</li>{{end}}</ol>
{{end}}{{if .Ignored}}<h2>Ignored</h2>
<ul>{{range .Ignored}}<li><code>{{.ID}}</code> {{.Name}}: {{.Why}}</li>{{end}}</ul>
{{end}}{{if .Gaps}}<h2>Not searched</h2>
<ul>{{range .Gaps}}<li>{{.}}</li>{{end}}</ul>
{{end}}{{if .Unopened}}<h2>Not looked into</h2>
<ul>{{range .Unopened}}<li>{{.}}</li>{{end}}</ul>
{{end}}{{if .Notes}}<h2>Notes</h2>
<ul>{{range .Notes}}<li>{{.}}</li>{{end}}</ul>
{{end}}</body>
</html>
`
