package scan

// Anthropic gives the family of the provider's keys. Prefixes and lengths are observed, not published, and no checksum exists: other lengths
// and kinds are near.
func Anthropic() Family {
	const prefix = "sk-ant-"
	usual := func(kind Kind, name string) KindShape {
		return KindShape{Kind: kind, Prefix: prefix + name + "-", Alphabet: URLSafe, Lengths: []int{95}, Tail: "AA", Min: 40}
	}
	open := func(kind Kind, name string) KindShape {
		return KindShape{Kind: kind, Prefix: prefix + name + "-", Alphabet: URLSafe, Min: 40}
	}
	return Family{
		Name:   "anthropic",
		Prefix: prefix,
		Shapes: []KindShape{
			usual("API key", "api03"),
			usual("admin key", "admin01"),
			open("scoped key", "api01"),
			open("OAuth access token", "oat01"),
			open("OAuth refresh token", "ort01"),
			open("session key", "sid01"),
			open("session key", "sid02"),
			{Kind: "webhook secret", Prefix: "whsec_", Alphabet: Base64, Min: 32, Anchors: []string{"whsec_"}},
		},
	}
}
