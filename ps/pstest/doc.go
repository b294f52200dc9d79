// Package pstest tests parameter servers: a conformance suite that a server must pass in whatever way it is reached
// (TestServer), a seeded simulator that runs a core through kills, pauses, lost, repeated and reordered messages and
// checks every promise of package ps afterwards (Simulate), at random or at moments of a script (Sim.Script), and small rules.
//
// # The fault contract
//
// What is promised when something goes wrong, without rounds and in rounds. Each event is scripted in the simulator, in both modes
// (TestScriptedFaults), and happens to real processes or over a proxy in the tests that are named below it. In all of them every
// acknowledged commit counts once, and every row once an epoch.
//
//	worker killed:
//		Others go on at once, and its data goes on where its last acknowledged commit left it. A round closes with those who are left.
//		TestFaultsOfWorkerProcesses TestWorkersAsProcesses TestAllWorkersKilled TestKilledAndStoppedProcesses TestAKilledWorkerOnDataServers
//	worker paused or slow:
//		Slow: it holds up nobody but a round, and no round of a quorum; what comes too late is scaled or dropped, and counted.
//		Paused: when its lease is over its data goes to others; when it goes on it is fenced off and joins again.
//		TestFaultsOfWorkerProcesses TestAHungWorkerDoesNotKeepTheRun TestAccuracyOfDisturbedRuns TestKilledAndStoppedProcesses
//	worker rejoins:
//		It starts a new life from the centre; everything of the old one is refused. Rounds take it in as the next one opens.
//		TestFaultsOfWorkerProcesses TestWorkersJoinFromAnywhere TestPausedWorkerLosesItsLeaseAndMayRejoin
//	commit repeated, lost or reordered:
//		It is applied once, and a repeat gets the same answer. In rounds the bits are those of an undisturbed run.
//		TestFaultsOfWorkerProcesses TestCutConnectionsCountEveryCommitOnce TestACopyThatComesLateDoesNotEndACall
//		TestAStreamThatBeganLateTakesNobodysPlace
//	data server lost:
//		The run waits for another one in its place. All go back to the last checkpoint, or the last copy of the state that the
//		coordinator keeps, and workers join again, or are given up after half a minute; what came after it is done again, and
//		reported. A round that was open is. One that was paused only is waited for, and nothing is lost.
//		TestAKilledDataServerIsReplaced TestAllDataServersKilledAtOnce TestAPausedDataServerLosesNothing TestDataServersByHand TestALostDataServerTakesTheRunBack
//		TestStoppedAndKilledDataServerProcesses TestLostRoundIsMadeAgain TestWorkersComeBackAfterARollback
//	coordinator lost:
//		Another one goes on from the last checkpoint, with any number of workers; those that waited join it. Nobody else of the run
//		outlives it for longer than a lease.
//		TestResumeAfterTheCoordinatorWasKilled TestRestartedCoordinatorTakesOver TestAKilledCoordinatorLeavesNobody
//	partition:
//		Who cannot be heard of loses its lease and can do nothing to the parameters any more; when it is back it joins again.
//		TestFaultsOfWorkerProcesses TestHalfOpenConnectionEndsTheLife
//	scale up or down:
//		Workers come and leave at any time; rules that depend on their number count those who are there.
//		TestFaultsOfWorkerProcesses TestWorkersJoinFromAnywhere TestAWorkerMayLeave
//	data server added or removed:
//		A run goes on from its checkpoint with another number of data servers, and workers join again.
//		TestCheckpointGoesOnWithAnotherNumberOfServers TestResumeOnAnotherNumberOfServers
//	NaN:
//		The commit is refused whole and its samples are spent. A worker whose commits are refused three times in a row, or whose loss
//		is not finite, is given up; when more have diverged than are left, the run ends as diverged.
//		TestFaultsOfWorkerProcesses TestAWorkerThatSendsNaNIsGivenUp TestNaNAtOneDataServerIsRefusedByAll
//	stop:
//		Workers finish their step and commit what they have; the model is kept beside LATEST, and a checkpoint to go on from.
//		TestStopKeepsWhatWasLearned TestResumeAfterAStop
package pstest
