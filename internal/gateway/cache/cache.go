// Package cache keeps answers in memory for a short time, bounded in bytes, so that a request that was answered a moment ago can be answered
// while the provider is down. It never writes to a disk and never decides what may be kept or served: the gateway does.
package cache

import (
	"container/list"
	"net/http"
	"sync"
	"time"
)

// Key names a request: a digest over all that its answer depends on.
type Key [32]byte

// Answer is what was answered. Its parts must not be changed.
type Answer struct {
	Header http.Header
	Body   []byte
	At     time.Time
}

// overhead is what an entry takes besides its body, about.
const overhead = 512

// Cache is a bounded set of answers. All methods may be called from several goroutines.
type Cache struct {
	mu    sync.Mutex
	most  int64
	ttl   time.Duration
	by    map[Key]*list.Element
	order *list.List // of *item, the oldest first
	bytes int64
}

type item struct {
	key Key
	Answer
}

// New makes a cache of at most the given number of bytes. An answer is kept for ttl at most.
func New(most int64, ttl time.Duration) *Cache {
	return &Cache{most: most, ttl: ttl, by: map[Key]*list.Element{}, order: list.New()}
}

// Limit changes the bounds. What is beyond them is dropped, the oldest first.
func (c *Cache) Limit(most int64, ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most, c.ttl = most, ttl
	c.fit()
}

// fit drops the oldest answers until the rest has room. The caller holds mu.
func (c *Cache) fit() {
	for c.bytes > c.most {
		c.drop(c.order.Front())
	}
}

// Largest is how many bytes the body of an answer may have to be kept.
func (c *Cache) Largest() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.largest()
}

func (c *Cache) largest() int64 { return min(c.most/8, 1<<20) }

// Put keeps an answer in place of the one before. The oldest ones make room; one that is too large is not kept.
func (c *Cache) Put(k Key, a Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int64(len(a.Body)) > c.largest() {
		return
	}
	if e := c.by[k]; e != nil {
		c.drop(e)
	}
	c.by[k] = c.order.PushBack(&item{k, a})
	c.bytes += size(a)
	c.fit()
	for e := c.order.Front(); e != nil && a.At.Sub(e.Value.(*item).At) >= c.ttl; e = c.order.Front() {
		c.drop(e)
	}
}

func size(a Answer) int64 { return int64(len(a.Body)) + overhead }

func (c *Cache) drop(e *list.Element) {
	i := c.order.Remove(e).(*item)
	delete(c.by, i.key)
	c.bytes -= size(i.Answer)
}

// Get gives an answer that is younger than the cache's time at now.
func (c *Cache) Get(k Key, now time.Time) (Answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.by[k]
	if e == nil {
		return Answer{}, false
	}
	a := e.Value.(*item).Answer
	if now.Sub(a.At) >= c.ttl {
		c.drop(e)
		return Answer{}, false
	}
	return a, true
}

// Size gives how much is kept.
func (c *Cache) Size() (entries int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.by), c.bytes
}
