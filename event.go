package banger

import "time"

// EventType says what an event is about. The words are stable; more may come.
type EventType string

// The types of events; docs/events.md says when each is written.
const (
	EventVMCreated     EventType = "vm.created"
	EventVMStarted     EventType = "vm.started"
	EventVMStartFailed EventType = "vm.start-failed"
	EventVMRebooted    EventType = "vm.rebooted"
	EventVMPaused      EventType = "vm.paused"
	EventVMResumed     EventType = "vm.resumed"
	EventVMStopped     EventType = "vm.stopped"
	EventVMReset       EventType = "vm.reset"
	EventVMChanged     EventType = "vm.changed"
	EventVMDeleted     EventType = "vm.deleted"
	EventPortAdded     EventType = "port.added"
	EventPortRemoved   EventType = "port.removed"
	EventPortRefused   EventType = "port.refused"
	EventClockSet      EventType = "clock.set"
	// Of operations; the words behind the dot are those of their statuses.
	EventOperationStarted   EventType = "operation.started"
	EventOperationDone      EventType = "operation.done"
	EventOperationFailed    EventType = "operation.failed"
	EventOperationCancelled EventType = "operation.cancelled"

	EventDaemonStarted  EventType = "daemon.started"
	EventDaemonStopped  EventType = "daemon.stopped"
	EventConfigReloaded EventType = "config.reloaded"
	// EventLost is never stored: a reader gets it in place of events that were
	// pruned before it came to them. Its id is that of the last one lost.
	EventLost EventType = "events.lost"
)

// EventTypes are all types of events.
func EventTypes() []EventType {
	return []EventType{
		EventVMCreated, EventVMStarted, EventVMStartFailed, EventVMRebooted, EventVMPaused, EventVMResumed,
		EventVMStopped, EventVMReset, EventVMChanged, EventVMDeleted, EventPortAdded, EventPortRemoved, EventPortRefused, EventClockSet,
		EventOperationStarted, EventOperationDone, EventOperationFailed, EventOperationCancelled, EventDaemonStarted, EventDaemonStopped, EventConfigReloaded, EventLost,
	}
}

// Event is something that has happened. Its JSON form is stable and only grows.
type Event struct {
	ID      int64             `json:"id"` // strictly increasing for the life of the database
	Time    time.Time         `json:"time"`
	Type    EventType         `json:"type"`
	VM      string            `json:"vm,omitempty"` // its name
	VMID    string            `json:"vm_id,omitempty"`
	Request string            `json:"request,omitempty"` // id of the request that led to it
	Reason  string            `json:"reason,omitempty"`  // of an end: see LastExit; of a failure: for people
	Detail  map[string]string `json:"detail,omitempty"`
}

// EventFilter says which events are wanted. The zero value is all of them.
type EventFilter struct {
	Since time.Time   // zero: from whenever
	VM    string      // name or id; "": of any and of none
	Types []EventType // none: all
}
