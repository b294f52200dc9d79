// Package publish puts versions of a dataset or a model on any hdfsio.FS so that a reader never sees half of one, and
// a run that dies at any point leaves nothing worse than garbage that the next run removes.
//
// # What lies in a root
//
//	LATEST                       "v000004\n": the name of the version that readers take
//	v000004/                     a version: its files, and _version.json with their sizes and hashes
//	.stage-v000005-<id>/         a version being written
//	.trash-v000001-<id>/         a version being removed
//	_lock                        who holds the lock, as JSON; rewritten as a heartbeat
//	_epochs/000000007            the claim of the newest fencing epoch; exactly one run can have made it
//	_slots/<slot>.json           which version did this slot
//	_pins/v000004-<id>.json      a process that reads this version; rewritten as a heartbeat
//	_pins/removing-v000002-<id>  the holder of the lock is about to remove this version
//	_left.json                   what is to be done in the holder's place if it dies (Leave)
//	_history.jsonl               the versions that LATEST has named, one line a move
//
// Readers of data skip names that begin with a dot or an underscore, as Hadoop, Spark and Hive do.
//
// # The steps of a run
//
//  1. Acquire claims the next fencing epoch by an exclusive Create and starts the heartbeat.
//  2. Lock.Stage removes the garbage of dead runs and makes a stage folder beside the versions, in the same encryption
//     zone and quota. Files are written through Stage.Create, which hashes them on the way.
//  3. Stage.Publish writes _version.json, asks whether the lock is still ours, and renames the folder to its final
//     name. The folder is never empty, so the rename is exclusive; the next number is taken when it fails for that.
//  4. When the gate is passed, Lock.RecordSlot writes the slot file and Lock.MoveLatest replaces LATEST by a rename.
//     A run whose gate is broken leaves both calls out: its version stays, and readers do not get it.
//  5. Lock.Retain removes old versions that nobody has pinned (PinVersion), and Lock.Release gives the lock back.
//
// A rename whose answer got lost is settled by looking: the folder at the target has our id or it has not. Nothing
// is repeated blindly, because a repeated call is a new one to an HDFS NameNode, whose retry cache does not know it.
//
// # What the lock can promise
//
// The stores offer no compare-and-swap, but they offer exclusive creation, and that is what decides: an epoch belongs
// to whoever created its claim, and the lock to the holder of the highest claim. _lock is only the view of it and the
// sign of life. A holder that was stopped for long, so that another took over, finds a higher claim when it wakes:
// before it renames a version, before it moves LATEST and at every heartbeat. Between that look and the rename that
// follows lies one round trip in which a holder could still be put aside. What it does then is harmless: it adds a
// complete version under a number of its own, or moves LATEST forward to a complete version.
package publish
