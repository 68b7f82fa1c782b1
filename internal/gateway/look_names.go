package gateway

import "github.com/keywright/keywright/internal/gateway/object"

// share is what the items of a batch with one model have together.
type share struct{ items, size, maxTokens int64 }

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
func (l *look) wants() bool {
	if l.kinds[l.depth-1] != '{' {
		return false
	}
	r := l.roles[l.depth-1]
	switch l.name {
	case wordModel:
		return r == roleMessage
	case wordFileID, wordSkillID:
		return r != roleOpaque
	case wordContainer:
		return r == roleMessage
	case wordID:
		return r == roleContainer
	case wordType:
		return r == roleTool || r == roleSkill
	case wordPrevious:
		return r == roleThread
	default:
		return false
	}
}

// value takes a string that matters.
func (l *look) value(s string) {
	switch l.name {
	case wordModel:
		l.model = s
	case wordFileID:
		l.names(object.File, s)
	case wordContainer, wordID:
		l.names(object.Container, s)
	case wordPrevious:
		l.names(object.Thread, s)
	case wordSkillID:
		if l.roles[l.depth-1] == roleSkill && len(l.skills) < maxBatchModels {
			l.skills = append(l.skills, s)
			return
		}
		l.names(object.Skill, s)
	case wordType:
		switch {
		case l.roles[l.depth-1] == roleTool:
			l.server = l.server || s != "custom"
		case s == "anthropic" && l.kept != skillCustom:
			l.kept = skillPublished
		default:
			l.kept = skillCustom
		}
	}
}

// names notes an object.
func (l *look) names(kind, id string) {
	if !object.PlainID(id) {
		l.odd = true
		return
	}
	if l.named == nil {
		l.named = map[object.Name]struct{}{}
	}
	if l.named[object.Name{Kind: kind, ID: id}] = struct{}{}; len(l.named) > maxNamed {
		l.err = "it names too many objects"
	}
}

// begin and end are called for every part.
func (l *look) begin(r role) {
	switch r {
	case roleMessage:
		l.seen, l.from = 0, l.at
		l.model, l.maxTokens, l.stream = "", 0, false
	case roleSkill:
		l.skills, l.kept = l.skills[:0], skillSilent
	}
}

func (l *look) end(r role) {
	switch r {
	case roleSkill:
		kind := object.Skill
		if l.kept == skillPublished {
			kind = object.Published
		}
		for _, id := range l.skills {
			l.names(kind, id)
		}
	case roleMessage:
		if !l.batch {
			return
		}
		s := l.items[l.model]
		if s == nil {
			if l.items == nil {
				l.items = map[string]*share{}
			}
			if len(l.items) >= maxBatchModels {
				l.err = "it names too many models"
				return
			}
			s = &share{}
			l.items[l.model] = s
		}
		s.items++
		s.size += l.at - l.from + 1
		s.maxTokens += l.maxTokens
	}
}
