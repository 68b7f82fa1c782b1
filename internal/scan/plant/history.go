package plant

import (
	"strings"
)

// step commits the base of the trunk after a change.
func (b *bed) step(main *object, change func(f files)) *object {
	b.base = b.base.clone()
	change(b.base)
	if main == nil {
		return b.commit(b.base, details{})
	}
	return b.commit(b.base, details{}, main)
}

// trunk is a line of commits: files that come, change, move and go.
func (b *bed) trunk() *object {
	main := b.step(nil, func(f files) {
		b.put(f, "config/first.env", "in the first commit, removed later")
		b.put(f, "config/kept.env", "in the first commit and still there")
		b.text(f, "README.md")
	})
	main = b.step(main, func(f files) {
		b.put(f, "old.yaml", "removed and brought back")
		b.put(f, "twice.yaml", "removed twice")
		b.put(f, "app/settings.py", "replaced by another key")
		b.put(f, "a/b/c/d/e/f.txt", "deep in folders")
	})
	oldFile, twice := b.base.at["old.yaml"], b.base.at["twice.yaml"]
	main = b.step(main, func(f files) {
		delete(f.at, "config/first.env")
		delete(f.at, "old.yaml")
		delete(f.at, "twice.yaml")
		b.put(f, "app/settings.py", "in the place of another key")
	})
	main = b.step(main, func(f files) {
		f.at["old.yaml"], f.at["twice.yaml"] = oldFile, twice
		b.put(f, "move/me.txt", "renamed")
		b.put(f, "edit.txt", "renamed and edited")
		b.put(f, "copy.txt", "copied, and the first one removed")
		b.put(f, "both.txt", "in two files of which one goes")
		b.put(f, "dir1/sub/x.txt", "in a folder that moves")
		b.put(f, "link", "a file that becomes a link")
		b.put(f, "mode.sh", "a change of mode alone")
		b.put(f, "folder", "a file that becomes a folder")
	})
	main = b.step(main, func(f files) {
		delete(f.at, "twice.yaml")
		f.at["moved/me.txt"] = f.at["move/me.txt"]
		delete(f.at, "move/me.txt")
		e := f.at["edit.txt"]
		e.data = append([]byte("# edited\n"), e.data...)
		f.at["edited.txt"] = e
		delete(f.at, "edit.txt")
		f.at["copy2.txt"] = f.at["copy.txt"]
		f.at["both2.txt"] = f.at["both.txt"]
		f.at["dir2/sub/x.txt"] = f.at["dir1/sub/x.txt"]
		delete(f.at, "dir1/sub/x.txt")
		value, k := b.key("the text of a link that was a file")
		f.at["link"] = entry{"120000", []byte("../" + value), []int{k}}
		e = f.at["mode.sh"]
		e.mode = "100755"
		f.at["mode.sh"] = e
		delete(f.at, "folder")
		b.put(f, "folder/file", "in a folder that was a file")
	})
	return b.step(main, func(f files) {
		delete(f.at, "copy.txt")
		delete(f.at, "both.txt")
		value, k := b.key("in the name of a file")
		f.at["names/"+value+".txt"], f.names["names/"+value+".txt"] = entry{mode: "100644", data: []byte("nothing\n")}, k
		value, k = b.key("in the name of a folder")
		f.at["names/"+value+"/sub/a.txt"], f.names["names/"+value] = entry{mode: "100644", data: []byte("nothing\n")}, k
		value, k = b.key("a symbolic link")
		f.at["names/link"] = entry{"120000", []byte(value), []int{k}}
		one, k1 := b.key("first of two in one file")
		two, k2 := b.key("second of two in one file")
		f.at["pair.txt"] = entry{"100644", []byte(one + "\n" + two + "\n"), []int{k1, k2}}
		value, k = b.key("address of a submodule")
		f.at[".gitmodules"] = entry{"100644", []byte("[submodule \"a\"]\n\tpath = a\n\turl = https://x:" + value + "@git.example/a.git\n"), []int{k}}
		b.put(f, "-dash", "under a name that begins with a hyphen")
		b.put(f, "sp ace/ümläut\ttab", "under a name with blanks and letters beyond ASCII")
		value, k = b.key("in a long file")
		f.at["long.txt"] = entry{"100644", []byte(string(lines(b.Garden, 3000)) + value + "\n"), []int{k}}
		value, k = b.key("in a binary")
		f.at["bin"] = entry{"100644", append(b.Noise(5000), value...), []int{k}}
	})
}

// branch commits one change on top of a commit, away from the trunk.
func (b *bed) branch(from *object, base files, change func(f files)) (*object, files) {
	f := base.clone()
	change(f)
	return b.commit(f, details{}, from), f
}

// merges joins branches in every way.
func (b *bed) merges(main *object) *object {
	fork, base := main, b.base
	merge := func(change func(f files), sides ...*object) {
		b.base = b.base.clone()
		change(b.base)
		main = b.commit(b.base, details{message: "merge"}, append([]*object{main}, sides...)...)
	}
	gone, gf := b.branch(fork, base, func(f files) { b.put(f, "topic.txt", "on a merged branch, removed before the merge") })
	gone, _ = b.branch(gone, gf, func(f files) { delete(f.at, "topic.txt") })
	merge(func(files) {}, gone)
	side, sf := b.branch(fork, base, func(f files) { b.put(f, "side.txt", "by a merged branch") })
	merge(func(f files) { f.at["side.txt"] = sf.at["side.txt"] }, side)
	other, _ := b.branch(fork, base, func(f files) { b.put(f, "dropped.txt", "dropped by the merge itself") })
	merge(func(files) {}, other)
	plain, _ := b.branch(fork, base, func(f files) { b.text(f, "plain.txt") })
	merge(func(f files) { b.put(f, "evil.txt", "only in what a merge adds") }, plain)
	main = b.step(main, func(f files) { delete(f.at, "evil.txt") })

	// A removal on one side, taken over; a branch that still has it, merged where it was removed.
	main = b.step(main, func(f files) {
		b.put(f, "adopt.txt", "removed on a branch, and the merge takes that over")
		b.put(f, "stale.txt", "brought back by a merge of a branch that still had it")
	})
	fork2, base2 := main, b.base
	remover, _ := b.branch(fork2, base2, func(f files) { delete(f.at, "adopt.txt") })
	main = b.step(main, func(f files) { b.text(f, "meanwhile.txt") })
	merge(func(f files) { delete(f.at, "adopt.txt") }, remover)
	stale, _ := b.branch(fork2, base2, func(f files) { b.text(f, "stale2.txt") })
	kept := b.base.at["stale.txt"]
	main = b.step(main, func(f files) { delete(f.at, "stale.txt") })
	merge(func(f files) { f.at["stale.txt"] = kept }, stale)

	// More than two sides.
	arm1, f1 := b.branch(main, b.base, func(f files) { b.put(f, "arm1.txt", "on an arm of an octopus merge") })
	arm2, f2 := b.branch(main, b.base, func(f files) { b.put(f, "arm2.txt", "on an arm of an octopus merge that loses it") })
	arm3, _ := b.branch(main, b.base, func(f files) { b.text(f, "arm3.txt") })
	merge(func(f files) {
		f.at["arm1.txt"] = f1.at["arm1.txt"]
		b.put(f, "octopus.txt", "only in what an octopus merge adds")
	}, arm1, arm2, arm3)
	merge(func(f files) { f.at["arm2.txt"] = f2.at["arm2.txt"] }, arm2)

	// Two lines that merge one another crosswise.
	left, lf := b.branch(main, b.base, func(f files) { b.put(f, "left.txt", "on the left of a crosswise merge") })
	right, rf := b.branch(main, b.base, func(f files) { b.put(f, "right.txt", "on the right of a crosswise merge, removed on the left") })
	l2f := lf.clone()
	l2f.at["right.txt"] = rf.at["right.txt"]
	l2 := b.commit(l2f, details{message: "cross"}, left, right)
	r2f := rf.clone()
	r2f.at["left.txt"] = lf.at["left.txt"]
	r2 := b.commit(r2f, details{message: "cross"}, right, left)
	l3, _ := b.branch(l2, l2f, func(f files) { delete(f.at, "right.txt") })
	merge(func(f files) { f.at["left.txt"] = lf.at["left.txt"] }, l3, r2)

	// A history of its own, joined; the same change on two branches; a revert of a revert.
	alone := newFiles()
	b.put(alone, "foreign.txt", "in a history of its own that was joined")
	root := b.commit(alone, details{message: "another beginning"})
	merge(func(f files) { f.at["foreign.txt"] = alone.at["foreign.txt"] }, root)
	picked, pf := b.branch(main, b.base, func(f files) { b.put(f, "picked.txt", "picked onto another branch") })
	b.ref("refs/heads/picked", picked)
	main = b.step(main, func(f files) { f.at["picked.txt"] = pf.at["picked.txt"] })
	main = b.step(main, func(f files) { b.put(f, "revert.txt", "reverted, and the revert reverted") })
	back := b.base.at["revert.txt"]
	main = b.step(main, func(f files) { delete(f.at, "revert.txt") })
	main = b.step(main, func(f files) { f.at["revert.txt"] = back })
	return b.step(main, func(f files) { delete(f.at, "picked.txt") })
}

// identities hides keys in commits themselves.
func (b *bed) identities(main *object) *object {
	say := func(place, part string, fill func(value string, d *details)) {
		value, k := b.key(place)
		d := details{own: map[int]string{k: part}}
		fill(value, &d)
		main = b.commit(b.base, d, main)
	}
	say("in a subject", partMessage, func(v string, d *details) { d.message = "use " + v })
	say("in the body of a message", partMessage, func(v string, d *details) { d.message = "subject\n\nbody\n\n> ANTHROPIC_API_KEY=" + v + "\n" })
	say("in a trailer", partMessage, func(v string, d *details) { d.message = "subject\n\nSigned-off-by: " + v })
	say("in a message with a lying clock", partMessage, func(v string, d *details) { d.message, d.at = "lie "+v, 1_000_000_000 })
	say("in an author's name", partAuthor, func(v string, d *details) { d.author = v + " <dev@acme.example>" })
	say("in an author's address", partAuthor, func(v string, d *details) { d.author = "Dev <" + v + "@acme.example>" })
	say("in a committer's name", partCommitter, func(v string, d *details) { d.committer = v + " <dev@acme.example>" })
	say("in a committer's address", partCommitter, func(v string, d *details) { d.committer = "Dev <" + v + ">" })
	say("in a header of a commit", partMessage, func(v string, d *details) { d.header = "note " + v + "\n" })
	say("in a signature", partMessage, func(v string, d *details) {
		d.header = "gpgsig -----BEGIN PGP SIGNATURE-----\n Comment: " + v + "\n -----END PGP SIGNATURE-----\n"
	})
	say("in base64 in a message", partMessage, func(v string, d *details) { d.message = "token " + b64("key "+v+"\n") })
	for i, n := range Negatives() {
		if i < 12 { // short texts
			main = b.commit(b.base, details{message: strings.ReplaceAll(string(n.Make(b.Garden)), "\x00", "")}, main)
		}
	}
	both, k := b.key("in a message and a file at once")
	b.base = b.base.clone()
	b.base.at["said.txt"] = entry{"100644", []byte(both + "\n"), []int{k}}
	main = b.commit(b.base, details{message: "add " + both, own: map[int]string{k: partMessage}}, main)
	return b.step(main, func(f files) { delete(f.at, "said.txt") })
}

// remotes pushes some, and not the rest.
func (b *bed) remotes(main *object) *object {
	var at []*object
	for _, place := range []string{"pushed, and still there", "pushed in the second push", "pushed by a push that nobody logged", "not pushed"} {
		main = b.step(main, func(f files) { b.put(f, "remote/"+strings.ReplaceAll(place, " ", "-"), place) })
		at = append(at, main)
	}
	b.ref("refs/remotes/origin/main", at[2])
	b.log("refs/remotes/origin/main", move{new: at[0], at: b.later(1)}, move{old: at[0], new: at[1], at: b.later(3)})
	b.ref("refs/remotes/backup/main", at[0])
	forced, ff := b.branch(main, b.base, func(f files) { b.put(f, "forced.txt", "pushed, and overwritten by force") })
	clean, _ := b.branch(main, b.base, func(f files) { b.text(f, "forced.txt") })
	b.ref("refs/remotes/origin/topic", clean)
	b.log("refs/remotes/origin/topic", move{new: forced, at: b.later(4)}, move{old: forced, new: clean, at: b.later(5)})
	before := b.commit(ff, details{message: "long ago"}, forced)
	bf := b.base.clone()
	b.put(bf, "expired.txt", "pushed before the reflog begins")
	before = b.commit(bf, details{}, before)
	b.ref("refs/remotes/origin/expired", clean)
	b.log("refs/remotes/origin/expired", move{old: before, new: clean, at: b.later(6)})
	theirs, _ := b.branch(main, b.base, func(f files) { b.put(f, "theirs.txt", "on a remote's branch alone") })
	b.ref("refs/remotes/origin/team/theirs", theirs)
	return main
}
