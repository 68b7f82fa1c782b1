package scan

// OpenAI gives the family of that provider's keys. All of them carry eight characters in their middle that spell the provider's name in
// base64; the lengths are observed.
func OpenAI() Family {
	const mark = "T3Blbk" + "FJ"
	newer := func(kind Kind, prefix string) KindShape {
		return KindShape{Kind: kind, Prefix: prefix, Alphabet: URLSafe, Lengths: []int{156, 124, 48}, Inside: mark, Min: 40}
	}
	return Family{
		Name: "openai",
		Shapes: []KindShape{
			newer("project key", "sk-proj-"),
			newer("service account key", "sk-svcacct-"),
			newer("admin key", "sk-admin-"),
			newer("user key", "sk-None-"),
			{Kind: "user key", Prefix: "sk-", Alphabet: Alphanumeric, Lengths: []int{48}, Inside: mark, Min: 48, Anchors: []string{mark}},
		},
	}
}
