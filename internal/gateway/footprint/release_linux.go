package footprint

import (
	"bufio"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Release gives back the pages of the program file that this process has touched, so that those which only the start needed are not held for
// ever; the kernel reads the others again from its cache. Only mappings of the program itself are taken that cannot be written to and of
// which the process has no page of its own. It gives the bytes that were mapped and are not any more, as far as it could find out.
func Release() (freed int64) {
	debug.FreeOSMemory() // what the start allocated; it also runs the collector, which would touch the program again
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return 0
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0
	}
	defer f.Close()
	var from, to uintptr
	var rss, own int64
	give := func() {
		if from != 0 && own == 0 && rss > 0 && advise(from, to) == nil {
			freed += rss
		}
		from, rss, own = 0, 0, 0
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		w := strings.Fields(lines.Text())
		switch {
		case len(w) < 2:
		case strings.Contains(w[0], "-"):
			give()
			if len(w) >= 6 && w[5] == exe && w[1][1] == '-' && w[1][3] == 'p' {
				a, b, _ := strings.Cut(w[0], "-")
				x, err1 := strconv.ParseUint(a, 16, 64)
				y, err2 := strconv.ParseUint(b, 16, 64)
				if err1 == nil && err2 == nil {
					from, to = uintptr(x), uintptr(y)
				}
			}
		case w[0] == "Rss:":
			rss = kib(w[1])
		case w[0] == "Anonymous:", w[0] == "Swap:", w[0] == "Locked:":
			own += kib(w[1])
		}
	}
	give()
	return freed
}

func kib(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1 // what cannot be read is left alone
	}
	return n << 10
}

// advise drops clean pages of a file from this process' tables. They are read again when they are touched.
func advise(from, to uintptr) error {
	_, _, no := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
	if no != 0 {
		return no
	}
	return nil
}
