package plant

// cornerPlaces combine forms and put several keys beside one another.
func cornerPlaces() []Place {
	return []Place{
		{Name: "behind a stand-in", Make: around("A=sk-ant-api03-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\nB=", "\n")},
		{Name: "behind many mentions", Make: func(g *Garden, key string) []byte {
			var b []byte
			for range 5000 {
				b = append(b, "sk-ant-api03- "...)
			}
			return append(append(b, key...), '\n')
		}},
		{Name: "base64 behind many mentions in base64", Make: func(g *Garden, key string) []byte {
			text := ""
			for range 3000 {
				text += "sk-ant-api03- "
			}
			return []byte(wrap(b64(text+key+"\n"), 76, "\n"))
		}},
		{Name: "marked line", Make: around("k: ", " # keywright:allow\n")},
	}
}
