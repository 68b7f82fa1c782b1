package inspect

import "github.com/keywright/keywright/internal/gateway/object"

// Share is what the messages of a batch with one model have together.
type Share struct {
	Items     int64
	Size      int64 // in bytes
	MaxTokens int64
}

// maxNamed bounds the different objects that one request names, and maxBatchModels the models of a batch.
const (
	maxNamed       = 100_000
	maxBatchModels = 64
)

// role is what a part of a body is to the provider.
type role uint8

const (
	rolePlain   role = iota // a part whose names mean what they say, such as a block of content
	roleOpaque              // a caller's own: the input of a tool, a schema
	roleMessage             // a message request
	roleBatch
	roleRequests
	roleItem
	roleTools
	roleTool
	roleContainer
	roleSkills
	roleSkill
	roleThread
)

// word is a name that means something.
type word uint8

const (
	wordOther word = iota
	wordModel
	wordMaxTokens
	wordStream
	wordFileID
	wordContainer
	wordSkillID
	wordSkills
	wordSignature
	wordInput
	wordSchema // input_schema, input_examples, schema
	wordTools
	wordType
	wordID
	wordRequests
	wordParams
	wordThread
	wordPrevious
	wordTemperature
	wordSteady // the other names of a message that leave its answer as it is
)

func wordOf(b []byte) word {
	switch string(b) {
	case "model":
		return wordModel
	case "max_tokens":
		return wordMaxTokens
	case "stream":
		return wordStream
	case "file_id":
		return wordFileID
	case "container":
		return wordContainer
	case "skill_id":
		return wordSkillID
	case "skills":
		return wordSkills
	case "signature":
		return wordSignature
	case "input":
		return wordInput
	case "input_schema", "input_examples", "schema":
		return wordSchema
	case "tools":
		return wordTools
	case "type":
		return wordType
	case "id":
		return wordID
	case "requests":
		return wordRequests
	case "params":
		return wordParams
	case "thread":
		return wordThread
	case "previous_message_id":
		return wordPrevious
	case "temperature":
		return wordTemperature
	case "messages", "system", "stop_sequences", "metadata", "top_p", "top_k", "service_tier":
		return wordSteady
	}
	return wordOther
}

// roleOf gives the role of a part that begins in another one.
func roleOf(parent role, name word, c byte) role {
	switch {
	case parent == roleOpaque:
		return roleOpaque
	case parent == roleBatch && name == wordRequests && c == '[':
		return roleRequests
	case parent == roleRequests && c == '{':
		return roleItem
	case parent == roleItem && name == wordParams && c == '{':
		return roleMessage
	case parent == roleMessage && name == wordTools && c == '[':
		return roleTools
	case parent == roleTools && c == '{':
		return roleTool
	case parent == roleMessage && name == wordContainer && c == '{':
		return roleContainer
	case parent == roleContainer && name == wordSkills && c == '[':
		return roleSkills
	case parent == roleSkills && c == '{':
		return roleSkill
	case parent == roleMessage && name == wordThread && c == '{':
		return roleThread
	case (parent == rolePlain || parent == roleTool) && (name == wordInput || name == wordSchema):
		return roleOpaque
	}
	return rolePlain
}

// skillKind is what the skill being read says of itself.
type skillKind uint8

const (
	skillSilent skillKind = iota
	skillPublished
	skillCustom // also one that says both
)

// wants reports whether the value of the last name matters when it is a string.
func (b *Body) wants() bool {
	if b.kinds[b.depth-1] != '{' {
		return false
	}
	r := b.roles[b.depth-1]
	switch b.name {
	case wordModel:
		return r == roleMessage
	case wordFileID, wordSkillID:
		return r != roleOpaque
	case wordContainer:
		return r == roleMessage
	case wordID:
		return r == roleContainer
	case wordType:
		return r == roleTool || r == roleSkill || r == rolePlain
	case wordPrevious:
		return r == roleThread
	default:
		return false
	}
}

// value takes a string that matters.
func (b *Body) value(s string) {
	switch b.name {
	case wordModel:
		b.Model = s
	case wordFileID:
		b.names(object.File, s)
	case wordContainer, wordID:
		b.names(object.Container, s)
	case wordPrevious:
		b.names(object.Thread, s)
	case wordSkillID:
		if b.roles[b.depth-1] == roleSkill && len(b.skills) < maxBatchModels {
			b.skills = append(b.skills, s)
			return
		}
		b.names(object.Skill, s)
	case wordType:
		switch {
		case b.roles[b.depth-1] == rolePlain:
			if !steadyBlock(s) {
				b.Varied, b.only = true, false
			}
		case b.roles[b.depth-1] == roleTool:
			b.Server = b.Server || s != "custom"
		case s == "anthropic" && b.kept != skillCustom:
			b.kept = skillPublished
		default:
			b.kept = skillCustom
		}
	}
}

// steadyBlock reports whether a part of that type may stand in a message that is answered alike each time: plain content, where it comes from, and
// how long it may be kept. Those of tools and thinking are not among them.
func steadyBlock(kind string) bool {
	switch kind {
	case "text", "image", "document", "base64", "url", "content", "ephemeral":
		return true
	}
	return false
}

// names notes an object.
func (b *Body) names(kind, id string) {
	if !object.PlainID(id) {
		b.Odd = true
		return
	}
	if b.Named == nil {
		b.Named = map[object.Name]struct{}{}
	}
	if b.Named[object.Name{Kind: kind, ID: id}] = struct{}{}; len(b.Named) > maxNamed {
		b.err = "it names too many objects"
	}
}

// begin and end are called for every part.
func (b *Body) begin(r role) {
	switch r {
	case roleMessage:
		b.seen, b.from = 0, b.at
		b.Model, b.MaxTokens, b.Stream = "", 0, false
	case roleSkill:
		b.skills, b.kept = b.skills[:0], skillSilent
	}
}

func (b *Body) end(r role) {
	switch r {
	case roleSkill:
		kind := object.Skill
		if b.kept == skillPublished {
			kind = object.Published
		}
		for _, id := range b.skills {
			b.names(kind, id)
		}
	case roleMessage:
		if !b.Batch {
			return
		}
		s := b.Items[b.Model]
		if s == nil {
			if b.Items == nil {
				b.Items = map[string]*Share{}
			}
			if len(b.Items) >= maxBatchModels {
				b.err = "it names too many models"
				return
			}
			s = &Share{}
			b.Items[b.Model] = s
		}
		s.Items++
		s.Size += b.at - b.from + 1
		s.MaxTokens += b.MaxTokens
	}
}
