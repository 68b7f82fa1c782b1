package plant

import (
	"bytes"
	"encoding/json"
	"strings"
)

// plainPlaces are files as people write them.
func plainPlaces() []Place {
	p := func(name, file, before, behind string) Place {
		return Place{Name: name, File: file, Make: around(before, behind)}
	}
	return []Place{
		p("environment file", "app/.env", "DEBUG=1\nANTHROPIC_API_KEY=", "\nPORT=80\n"),
		p("environment file with export", "app/.envrc", "export ANTHROPIC_API_KEY='", "'\n"),
		p("JSON", "app/config.json", `{"anthropic": {"apiKey": "`, `"}}`+"\n"),
		p("YAML", "app/values.yaml", "anthropic:\n  apiKey: ", "\n"),
		p("TOML", "app/settings.toml", "[ai]\nkey = \"", "\"\n"),
		p("INI", "app/app.ini", "[ai]\nkey=", "\r\n"),
		p("XML attribute", "app/web.config", `<add key="AnthropicKey" value="`, `"/>`),
		p("XML element", "app/pom.xml", "<key>", "</key>"),
		p("address", "docs/link.txt", "https://api.example.com/v1?key=", "&x=1\n"),
		p("command line", "docs/run.sh", "curl -H 'x-api-key: ", "' https://api.example.com/\n"),
		p("Markdown", "docs/README.md", "| key | `", "` |\n"),
		p("comment", "src/main.go", "package main\n\n// old: ", ".\n"),
		p("Dockerfile", "Dockerfile", "FROM scratch\nENV ANTHROPIC_API_KEY=", "\n"),
		p("Compose file", "compose.yaml", "services:\n  a:\n    environment:\n      - ANTHROPIC_API_KEY=", "\n"),
		p("Terraform", "infra/terraform.tfvars", "anthropic_key = \"", "\"\n"),
		p("Terraform state", "infra/terraform.tfstate", `{"resources":[{"instances":[{"attributes":{"value":"`, `"}}]}]}`),
		p("notebook", "lab/a.ipynb", `{"cells":[{"source":["client = Anthropic(api_key=\"`, `\")\n"]}]}`),
		p("shell history", ".bash_history", "ls\nexport ANTHROPIC_API_KEY=", "\ncd\n"),
		p("zsh history", ".zsh_history", ": 1700000000:0;export K=", "\n"),
		p("agent state", ".claude/settings.json", `{"env":{"ANTHROPIC_API_KEY":"`, `"}}`),
		p("editor state", ".vscode/settings.json", `{"ai.key":"`, `"}`),
		p("editor swap file", "src/.main.go.swp", "b0VIM 8.2\x00\x00\x10\x00", "\x00\x00"),
		p("git config", "repo/.git/config", "[remote \"origin\"]\n\turl = https://x:", "@git.example.com/a.git\n"),
		p("git hook", "repo/.git/hooks/pre-push", "#!/bin/sh\nK=", "\n"),
		p("git reflog", "repo/.git/logs/HEAD", "0 1 a <a@example.com> 1 +0000\tcommit: add ", "\n"),
		p("dependency folder", "node_modules/x/index.js", "k='", "'"),
		p("log file", "var/app.log", "2026-01-01 GET /v1/models x-api-key=[", "] 200\n"),
		p("ignored file", "ignored/secret.txt", "", "\n"),
		{Name: "ignore list", File: ".gitignore", Make: around("ignored/\n# ", "\n")},
		{Name: "file name", File: "names/KEY.txt", Make: func(*Garden, string) []byte { return []byte("empty\n") }},
		{Name: "folder name", File: "names/KEY/a.txt", Make: func(*Garden, string) []byte { return []byte("empty\n") }},
	}
}

// edgePlaces put all sorts of neighbours beside a key.
func edgePlaces() []Place {
	var all []Place
	for _, e := range []struct{ name, before, behind string }{
		{"glued words", "prefix", "suffix"}, {"glued capitals", "KEY", "KEY"}, {"glued underscores", "my_", "_old"}, {"glued hyphens", "a-", "-b"},
		{"glued digits", "0", "9"}, {"zero bytes", "\x00", "\x00"}, {"high bytes", "\xff\xfe\xfd", "\x80\x81"}, {"umlauts", "ä", "ö"},
		{"escaped line ends", `a\n`, `\nb`}, {"percent signs", "%22", "%22"}, {"an escape behind", "", `\u0026b`}, {"only the key", "", ""},
		{"carriage returns", "a\r\n", "\r\nb\r\n"}, {"brackets", "[", "]"}, {"equal signs", "==", "=="}, {"slashes", "/", "/x"}, {"a colon", "user:", "@host"},
		{"many prefixes", "sk-ant-sk-ant-api03-", ""}, {"a byte order mark", "\ufeff", "\n"}, {"backslashes", `\\`, `\\`}, {"AA behind", "", "AA"},
	} {
		all = append(all, Place{Name: "beside " + e.name, Make: around(e.before, e.behind)})
	}
	return append(all,
		Place{Name: "long line", Make: func(g *Garden, key string) []byte {
			return []byte("var a=\"" + g.Text(alnum+" ;,.", 3<<19) + "\",k=\"" + key + "\";" + g.Text(alnum+" ;,.", 1<<19))
		}},
		Place{Name: "binary", Make: func(g *Garden, key string) []byte {
			return append(append(append([]byte("\x7fELF\x02\x01\x01"), g.Noise(100_003)...), key...), g.Noise(50_000)...)
		}},
		Place{Name: "across windows", Make: func(g *Garden, key string) []byte {
			return append(append(bytes.Repeat([]byte("line of text\n"), (8<<20)/13-2), key...), g.Noise(100)...)
		}},
		Place{Name: "deep in a large file", Make: func(g *Garden, key string) []byte {
			return append(append(bytes.Repeat([]byte("0123456789abcde\n"), (5<<20)/16), key...), '\n')
		}},
	)
}

// splitPlaces take a key apart as languages do.
func splitPlaces() []Place {
	cut := func(at int, between string) func(*Garden, string) []byte {
		return func(g *Garden, key string) []byte {
			n := at
			if n == 0 {
				n = 20 + g.r.IntN(70)
			}
			return []byte("k = \"" + key[:n] + between + key[n:] + "\"\nnext = 1\n")
		}
	}
	every := func(width int, before, between, behind string) func(*Garden, string) []byte {
		return func(_ *Garden, key string) []byte {
			var parts []string
			for len(key) > width {
				parts, key = append(parts, key[:width]), key[width:]
			}
			return []byte(before + strings.Join(append(parts, key), between) + behind)
		}
	}
	return []Place{
		{Name: "split JavaScript", Make: cut(0, `" + "`)},
		{Name: "split JavaScript lines", Make: cut(0, "\" +\n    \"")},
		{Name: "split JavaScript leading plus", Make: cut(0, "\"\n    + \"")},
		{Name: "split template", Make: func(_ *Garden, key string) []byte { return []byte("k = `" + key[:50] + "` + `" + key[50:] + "`;") }},
		{Name: "split in the prefix", Make: cut(3, `" + "`)},
		{Name: "split behind the family", Make: cut(7, `" + "`)},
		{Name: "split in the kind", Make: cut(9, `" + "`)},
		{Name: "split before the kind", Make: cut(6, `"+"`)},
		{Name: "split Python", Make: cut(0, "\"\n     \"")},
		{Name: "split Python raw", Make: cut(0, "\"\n     r\"")},
		{Name: "split PHP", Make: func(_ *Garden, key string) []byte { return []byte("$k = '" + key[:40] + "' . '" + key[40:] + "';") }},
		{Name: "split Lua", Make: cut(0, `" .. "`)},
		{Name: "split Visual Basic", Make: cut(0, "\" & _\r\n  \"")},
		{Name: "split C", Make: cut(0, "\"\n\t\"")},
		{Name: "split SQL", Make: func(_ *Garden, key string) []byte { return []byte("select '" + key[:40] + "' || '" + key[40:] + "'") }},
		{Name: "split shell", Make: func(_ *Garden, key string) []byte { return []byte("K='" + key[:33] + "'\"" + key[33:] + "\"\n") }},
		{Name: "split shell continuation", Make: func(_ *Garden, key string) []byte { return []byte("export K=" + key[:60] + "\\\n" + key[60:] + "\n") }},
		{Name: "split array", Make: cut(0, `", "`)},
		{Name: "split in JSON", Make: func(_ *Garden, key string) []byte {
			b, _ := json.Marshal(map[string]string{"code": "k = \"" + key[:41] + "\" +\n  \"" + key[41:] + "\""})
			return b
		}},
		{Name: "folded YAML", Make: every(40, "key: >-\n  ", "\n  ", "\nother: 1\n")},
		{Name: "quoted YAML", Make: every(50, "key: \"", "\\\n  ", "\"\n")},
		{Name: "wrapped mail", Make: every(60, "", "=\r\n", "\r\nbye\r\n")},
		{Name: "wrapped comment", Make: every(64, "// ", "\n// ", "\npackage a\n")},
		{Name: "highlighted HTML", Make: func(_ *Garden, key string) []byte {
			return []byte("<code>sk-ant-<span class=\"n\">" + key[7:12] + "</span><span class=\"o\">-</span>" + key[13:30] + "<wbr>" + key[30:] + "</code>")
		}},
		{Name: "coloured terminal", Make: func(_ *Garden, key string) []byte {
			return []byte("a.txt:\x1b[01;31m\x1b[Ksk-ant-\x1b[m\x1b[K" + key[7:] + "\n")
		}},
		{Name: "terminal recording", Make: func(_ *Garden, key string) []byte {
			return []byte(`[1.5, "o", "\u001b[01;31msk-ant-\u001b[0m` + key[7:] + `\r\n"]`)
		}},
		{Name: "soft hyphens", Make: func(_ *Garden, key string) []byte {
			return []byte(key[:40] + "\u00ad" + key[40:80] + "\u200b" + key[80:])
		}},
	}
}
