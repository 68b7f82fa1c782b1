package plant

// tags hides keys in tags and in what only tags and branches name.
func (b *bed) tags(main *object) {
	branch := func(ref, place string) *object {
		o, _ := b.branch(main, b.base, func(f files) { b.put(f, "branch.txt", place) })
		if ref != "" {
			b.ref(ref, o)
		}
		return o
	}
	branch("refs/heads/feature/one", "on a branch that was not merged")
	branch("refs/tags/light", "under a tag without an object")
	value, k := b.key("in the message of a tag")
	b.ref("refs/tags/v1", b.tag("v1", "commit", main, "release "+value, "", map[int]string{k: partTag}))
	value, k = b.key("in the tagger of a tag")
	b.ref("refs/tags/v2", b.tag("v2", "commit", main, "release", value+" <dev@acme.example>", map[int]string{k: partTagger}))
	value, k = b.key("in a tag that another tag names")
	inner := b.tag("inner", "commit", main, value, "", map[int]string{k: partTag})
	value, k = b.key("in a tag of a tag")
	b.ref("refs/tags/outer", b.tag("outer", "tag", inner, value, "", map[int]string{k: partTag}))
	b.ref("refs/tags/blob", b.blob("a blob that only a tag names"))
	b.ref("refs/tags/blob2", b.tag("blob2", "blob", b.blob("a blob that only a tag object names"), "blob", "", nil))
	f := newFiles()
	b.put(f, "in/tree.txt", "in a tree that only a tag names")
	keys := b.mark(f)
	b.ref("refs/tags/tree", &object{id: b.d.tree(f), tree: keys, ever: keys})
	b.tag("lost", "commit", branch("", "under a tag that no ref names"), "lost", "", nil)

	orphan := newFiles()
	b.put(orphan, "orphan.txt", "on a branch with a history of its own")
	o := b.commit(orphan, details{})
	delete(orphan.at, "orphan.txt")
	b.text(orphan, "x.txt")
	b.ref("refs/heads/orphan", b.commit(orphan, details{}, o))
	branch("refs/pull/1/head", "under a ref of another kind")
	branch("refs/bisect/bad", "under a ref of a bisection")
}

// leftovers hides keys in what git keeps beside the history.
func (b *bed) leftovers(main *object) {
	away := func(place string) *object {
		o, _ := b.branch(main, b.base, func(f files) { b.put(f, "away.txt", place) })
		return o
	}
	// Stashes: a merge of the commit, the index, and the untracked files.
	stash := func(word string) *object {
		index, _ := b.branch(main, b.base, func(f files) { b.put(f, "staged.txt", "staged, in "+word) })
		untracked := newFiles()
		b.put(untracked, "untracked.txt", "untracked, in "+word)
		u := b.commit(untracked, details{})
		f := b.base.clone()
		b.put(f, "work.txt", "changed, in "+word)
		return b.commit(f, details{message: "WIP on main"}, main, index, u)
	}
	older, newer := stash("an older stash"), stash("a stash")
	b.ref("refs/stash", newer)
	b.log("refs/stash", move{new: older, at: b.later(1)}, move{old: older, new: newer, at: b.later(2)})

	// Notes, of which one was removed.
	f := newFiles()
	b.put(f, main.id, "in a note that was removed")
	note := b.commit(f, details{message: "Notes added by 'git notes add'"})
	f = newFiles()
	b.put(f, main.parents[0].id, "in a note")
	b.ref("refs/notes/commits", b.commit(f, details{message: "Notes added by 'git notes add'"}, note))

	// What was replaced, what was grafted away, and what replaces.
	b.ref("refs/replace/"+main.id, away("in the replacement of a commit"))
	hidden, hf := b.branch(main, b.base, func(f files) { b.put(f, "hidden.txt", "behind a graft") })
	grafted, _ := b.branch(hidden, hf, func(f files) { delete(f.at, "hidden.txt") })
	b.ref("refs/heads/grafted", grafted)
	b.d.file("info/grafts", grafted.id+"\n")

	// Reflogs, what git leaves beside HEAD, other work trees.
	amended, dropped := away("amended away"), away("dropped by a reset")
	b.log("HEAD", move{old: main, new: amended, at: b.later(1)}, move{old: amended, new: dropped, at: b.later(2)}, move{old: dropped, new: main, at: b.later(3)})
	b.log("refs/heads/gone", move{new: away("on a branch that was deleted"), at: b.later(1)})
	b.ref("ORIG_HEAD", away("under ORIG_HEAD"))
	fetched := away("fetched and not merged")
	b.ref("FETCH_HEAD", fetched)
	b.d.file("FETCH_HEAD", fetched.id+"\tnot-for-merge\tbranch 'x' of https://git.example/a\n")
	b.ref("worktrees/side/HEAD", away("on the detached HEAD of another work tree"))
	b.d.file("worktrees/side/commondir", "../..\n")

	// What nothing names.
	away("in a commit that nothing names")
	b.commit(newFiles(), details{message: "empty"}, away("in the parent of a commit that nothing names"))
	b.blob("a blob that nothing names")
	lost := newFiles()
	b.put(lost, "lost/tree.txt", "in a tree that nothing names")
	b.d.tree(lost)
	b.mark(lost)
	value, k := b.key("in a tag that nothing names")
	b.tag("dangling", "commit", main, value, "", map[int]string{k: partTag})
	removed, rf := b.branch(main, b.base, func(f files) { b.put(f, "brief.txt", "put in and taken out where nothing leads") })
	b.branch(removed, rf, func(f files) { delete(f.at, "brief.txt") })
}
