package scan

import "bytes"

// HeadSize is how many bytes of an object's start Magic looks at.
const HeadSize = 512

type container uint8

const (
	noContainer container = iota
	gzipFile
	zipFile
	tarFile
	bzip2File
	xzFile
	zstdFile
	wideText // text in UTF-16 that says so by its byte order mark
)

// Magic reports whether an object with this start is an archive, compressed, or text in UTF-16. head holds the object's first HeadSize bytes, or all of a
// smaller one; more does no harm.
func Magic(head []byte) bool { return containerOf(head) != noContainer }

func containerOf(b []byte) container {
	if len(b) < 6 {
		return noContainer
	}
	switch {
	case b[0] == 0x1f && b[1] == 0x8b && b[2] == 8:
		return gzipFile
	case b[0] == 'P' && b[1] == 'K' && (b[2] == 3 && b[3] == 4 || b[2] == 5 && b[3] == 6 || b[2] == 7 && b[3] == 8):
		return zipFile
	case b[0] == 'B' && b[1] == 'Z' && b[2] == 'h' && b[3] >= '1' && b[3] <= '9' && (b[4] == 0x31 || b[4] == 0x17):
		return bzip2File
	case bytes.HasPrefix(b, []byte("\xfd7zXZ\x00")):
		return xzFile
	case b[0] == 0x28 && b[1] == 0xb5 && b[2] == 0x2f && b[3] == 0xfd:
		return zstdFile
	case b[0] == 0xff && b[1] == 0xfe && (b[2] != 0 || b[3] != 0), b[0] == 0xfe && b[1] == 0xff:
		return wideText
	case len(b) >= 262 && string(b[257:262]) == "ustar":
		return tarFile
	}
	return noContainer
}

// plausible looks closer at the start of data that claims to be gzip. Other data is plausible.
func plausible(b []byte) bool {
	if len(b) < 18 || containerOf(b) != gzipFile {
		return len(b) >= 18
	}
	flags, extra, system := b[3], b[8], b[9]
	if flags&0xe0 != 0 || extra != 0 && extra != 2 && extra != 4 || system > 20 && system != 255 {
		return false
	}
	if flags != 0 {
		return true // names and the like stand before the first block
	}
	switch b[10] >> 1 & 3 {
	case 0: // stored: the length, and the length inverted
		return b[11]^b[13] == 0xff && b[12]^b[14] == 0xff
	case 3:
		return false
	default:
		return true
	}
}
