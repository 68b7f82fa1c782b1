package gateway

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &buffer{}
		l := NewLines(b)
		_, _ = l.Write([]byte("a\n"))
		_, _ = l.Write([]byte("b\n"))
		if len(b.Bytes()) != 0 {
			t.Error("written at once")
		}
		time.Sleep(linesWait + time.Millisecond)
		synctest.Wait()
		if string(b.Bytes()) != "a\nb\n" {
			t.Errorf("%q", string(b.Bytes()))
		}
		_, _ = l.Write([]byte("c\n"))
		if err := l.Close(); err != nil || string(b.Bytes()) != "a\nb\nc\n" {
			t.Errorf("%v %q", err, string(b.Bytes()))
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := l.Write([]byte("d\n")); err == nil {
			t.Error("written after the end")
		}
	})
}
