package lifecycle

import "sync"

// LockClass is a kind of lock. The classes are in the order in which one goroutine may
// take them: whoever holds one takes only locks of later classes, and no second
// one of the same.
type LockClass string

// The classes, the first to be taken first.
const (
	LockVM        LockClass = "VM"        // one VM's, from the beginning of a verb to its end
	LockAdmission LockClass = "admission" // of counting the memory that is left
	LockCache     LockClass = "cache"     // of an image, a template or a kernel; taken by Images and Kernels
	LockState     LockClass = "state"     // of what a Manager knows; never held across I/O
)

// LockOrder is LockVM and so on, in their order.
func LockOrder() []LockClass { return []LockClass{LockVM, LockAdmission, LockCache, LockState} }

// LockObserver is told of every lock before it is taken, and after it was freed
// or given up, on the goroutine that does so.
type LockObserver interface {
	Take(LockClass)
	Free(LockClass)
}

// nobody watches the locks.
type nobody struct{}

func (nobody) Take(LockClass) {}
func (nobody) Free(LockClass) {}

// mutex is a sync.Mutex of a class.
type mutex struct {
	mu       sync.Mutex
	class    LockClass
	observer LockObserver
}

func (l *mutex) Lock() {
	l.observer.Take(l.class)
	l.mu.Lock()
}

func (l *mutex) Unlock() {
	l.mu.Unlock()
	l.observer.Free(l.class)
}
