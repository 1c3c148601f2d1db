/*
 * Seal, vote and certify: one origin, and the N-1 other regions, which may cosign its
 * checkpoints. README.md says what stands for what and why that is enough;
 * tools/model.sh runs the model in every setting that is named here.
 *
 * Who fails:
 *   ORIGIN_LIES        the origin signs everything, and shows each region what it likes
 *   LYING_VOTERS=n     n of the other regions have cosigned everything
 *   SILENT_VOTERS=n    n of the other regions never say anything
 *   FAULTS=n           leader changes and restarts per region; any number if not given
 * Rules that can be switched off, to see that they are needed:
 *   NO_LOCK            a vote is cosigned before Raft has committed it
 *   NO_CONSISTENCY     a bigger checkpoint need not extend the locked one
 *   NO_IDENTICAL       of two bodies of equal size only the roots are compared
 *   NO_SEAL            the origin signs what its leader holds, committed or not
 *   SMALL_QUORUM       a certificate needs 2N/3 regions instead of 2N/3+1
 * Questions to which the answer must be yes (the assertion must fail), or the model is empty:
 *   REACH_CERTIFIED=n  is a ledger of n entries ever certified?
 *   REACH_LOST         does a region vote otherwise after a vote went with its leader?
 *   REACH_KEPT         is a vote cosigned that outlived the leader who proposed it?
 *   REACH_REFUSED      does a lock ever refuse a fork?
 * Size:
 *   DEPTH=n            entries that the ledger may have, 1 to 3
 */

#define N 4
#ifdef SMALL_QUORUM
#define QUORUM (2*N/3)
#else
#define QUORUM (2*N/3 + 1)
#endif
#ifndef LYING_VOTERS
#define LYING_VOTERS 0
#endif
#ifndef SILENT_VOTERS
#define SILENT_VOTERS 0
#endif
#ifndef DEPTH
#define DEPTH 2
#endif

/*
 * A history is a node in the tree of all ledgers of at most DEPTH entries, each "a" or "b":
 * 1 is the empty ledger, and 2h and 2h+1 are h with one entry more. It stands for a size and
 * a root. "Is a prefix of" is a shift; that shift is the RFC 6962 consistency proof.
 * The body of a checkpoint is a history and a claim about the state after it: right, or WRONG.
 */
#define NONE 0
#define EMPTY 1
#define WRONG 16
#define BODIES 32

#define HISTORY(body) ((body) & 15)
#define SIZE(body) (HISTORY(body) >= 8 -> 3 : (HISTORY(body) >= 4 -> 2 : (HISTORY(body) >= 2 -> 1 : 0)))
#define EXTENDS(late, early) \
	(SIZE(late) >= SIZE(early) && (HISTORY(late) >> (SIZE(late) - SIZE(early))) == HISTORY(early))
#define CONTRADICT(x, y) (SIZE(x) == SIZE(y) -> (x) != (y) : !(EXTENDS(x, y) || EXTENDS(y, x)))

/* What Apply asks of a vote, given the body that is locked. */
#ifdef NO_CONSISTENCY
#define FOLLOWS(body, locked) true
#else
#define FOLLOWS(body, locked) EXTENDS(body, locked)
#endif
#ifdef NO_IDENTICAL
#define REPEATS(body, locked) (HISTORY(body) == HISTORY(locked))
#else
#define REPEATS(body, locked) ((body) == (locked))
#endif
#define ACCEPTS(locked, body) \
	(SIZE(body) == SIZE(locked) -> REPEATS(body, locked) : (SIZE(body) > SIZE(locked) && FOLLOWS(body, locked)))

/*
 * The network is the set of everything that was ever signed. A receiver may find any of it,
 * in any order, any number of times, or never.
 */
bool published[BODIES]; /* signed by the origin, as a checkpoint */
byte cosigned[BODIES];  /* a bit for each other region */

#define COSIGNATURES(body) ((cosigned[body] & 1) + ((cosigned[body] >> 1) & 1) + ((cosigned[body] >> 2) & 1))
/* A certificate exists from when its signatures exist: whoever finds them can make it. */
#define CERTIFIED(body) (published[body] && COSIGNATURES(body) >= QUORUM-1)

/* P3, asked each time that a signature may have completed a certificate. */
inline check_certificates(body) {
	if
	:: CERTIFIED(body) ->
		say(completes, body);
		for (other : 2 .. BODIES-1) {
			if
			:: CERTIFIED(other) && CONTRADICT(body, other) -> say(contradicts, other); assert(false)
			:: else
			fi
		}
#ifdef REACH_CERTIFIED
		if
		:: SIZE(body) >= REACH_CERTIFIED -> assert(false)
		:: else
		fi
#endif
	:: else
	fi;
	other = 0
}

/* For who reads a counterexample: the entries of the history as letters, and the claim. */
mtype = { proposes, locks, refuses, cosigns, loses, keeps, commits, seals, signs, completes, contradicts };
#define LETTER(body, i) ((i) > SIZE(body) -> '.' : 'a' + ((HISTORY(body) >> (SIZE(body) - (i))) & 1))
inline say(what, body) {
	printf("region %d %e %c%c%c%c\n", me, what, LETTER(body, 1), LETTER(body, 2), LETTER(body, 3), ((body) >= WRONG -> '!' : ' '))
}

/* Leaders change and voters restart: any number of times, or FAULTS times in each region. */
#ifdef FAULTS
#define MAY_FAIL (faults > 0)
#define FAILS faults--
#else
#define MAY_FAIL true
#define FAILS skip
#endif

/* Which checkpoints may a leader find? A liar's are all there from the beginning. */
#ifdef ORIGIN_LIES
#define FOUND(body) true
#else
#define FOUND(body) published[body]
#endif
/* What Apply would refuse for its size alone is not proposed, and what is said not said again:
   neither changes anything, and without them the search ends sooner. */
#define NEWS(body) (SIZE(body) >= SIZE(lock) && (body) != lock)
#define UNSAID(body) ((cosigned[body] & mine) == 0)

/* The leader proposes a vote for a checkpoint that it found. */
#define VOTE(body) \
	:: d_step { tail == NONE && FOUND(body) && NEWS(body) -> say(proposes, body); tail = body; AT_ONCE }
/* Any voter that applied a vote cosigns it, now or at any later time. One that restarts before
   it did has lost nothing but time: the step stays open to it and to every other voter. */
#define COSIGN(body) \
	:: d_step { body != NONE && UNSAID(body) -> cosign(body) }

inline cosign(body) {
	say(cosigns, body);
	cosigned[body] = cosigned[body] | mine;
	check_certificates(body);
#ifdef REACH_LOST
	if
	:: gone != NONE && CONTRADICT(gone, body) -> assert(false)
	:: else
	fi;
#endif
#ifdef REACH_KEPT
	assert(gone != body);
#endif
}

#ifdef NO_LOCK
#define AT_ONCE if :: ACCEPTS(memory, tail) -> memory = tail; cosign(tail) :: else fi
#else
#define AT_ONCE
#endif

/* An honest region as a voter. Raft has put lock and record on a majority of its disks;
   tail, a vote that is in the log of its leader but not yet committed, it may still lose. */
proctype Voter(byte me) {
	byte lock = EMPTY;     /* the body of this origin that Apply accepted last */
	byte record[DEPTH];    /* by size from 1, what Apply accepted: may be cosigned ever after */
	byte tail = NONE;
	byte mine = 1 << (me-1);
	byte other;
#ifdef NO_LOCK
	byte memory = EMPTY;   /* what its leader takes for locked */
#endif
#ifdef FAULTS
	byte faults = FAULTS;
#endif
#if defined(REACH_LOST) || defined(REACH_KEPT)
	byte gone = NONE;      /* the vote that went with its leader, or outlived it */
#endif

end:
	do
	VOTE(2) VOTE(3)
#if DEPTH >= 2
	VOTE(4) VOTE(5) VOTE(6) VOTE(7)
#ifdef ORIGIN_LIES
	VOTE(WRONG+4)
#endif
#endif
#if DEPTH >= 3
	VOTE(8) VOTE(9) VOTE(10) VOTE(11) VOTE(12) VOTE(13) VOTE(14) VOTE(15)
#endif
	/* Raft commits it, and Apply decides. */
	:: d_step { tail != NONE ->
		if
		:: ACCEPTS(lock, tail) -> say(locks, tail); lock = tail; record[SIZE(tail)-1] = tail
		:: else -> say(refuses, tail);
#ifdef REACH_REFUSED
			assert(false)
#endif
		fi;
		tail = NONE
	}
	/* Its leader is gone, and a new one has the tail in its log or has not. */
	:: atomic { MAY_FAIL && tail != NONE ->
		FAILS;
		if
		:: say(loses, tail);
#ifdef REACH_LOST
			gone = (ACCEPTS(lock, tail) -> tail : NONE);
#endif
			tail = NONE
		:: say(keeps, tail);
#ifdef REACH_KEPT
			gone = tail
#endif
		fi;
#ifdef NO_LOCK
		memory = lock
#endif
	}
	COSIGN(record[0])
#if DEPTH >= 2
	COSIGN(record[1])
#endif
#if DEPTH >= 3
	COSIGN(record[2])
#endif
	od
}

#ifndef ORIGIN_LIES
bool complete = false; /* the whole ledger is certified, and the origin's Raft has it */

/* An honest origin: entries, seals and certificates are committed in its own Raft. */
proctype Origin(byte me) {
	byte ledger = EMPTY;   /* committed entries */
	byte tail = NONE;      /* the ledger with one entry more, in the leader's log only */
	byte seal = EMPTY;     /* the last seal: Apply fixes its body from the ledger */
	byte settled = EMPTY;  /* the last seal that has been certified, as committed */
	byte other;
#ifdef FAULTS
	byte faults = FAULTS;
#endif

end:
	do
	:: tail == NONE && SIZE(ledger) < DEPTH -> tail = 2*ledger
	:: tail == NONE && SIZE(ledger) < DEPTH -> tail = 2*ledger + 1
	:: d_step { tail != NONE -> say(commits, tail); ledger = tail; tail = NONE }
	:: d_step { MAY_FAIL && tail != NONE -> FAILS; say(loses, tail); tail = NONE }
	/* A bounded number of seals is not certified yet: here one. */
	:: d_step { seal != ledger && settled == seal -> say(seals, ledger); seal = ledger }
	:: d_step { seal != EMPTY && !published[seal] -> say(signs, seal); published[seal] = true; check_certificates(seal) }
	:: MAY_FAIL && seal != EMPTY && !published[seal] -> FAILS
#ifdef NO_SEAL
	:: d_step { tail != NONE && !published[tail] -> say(signs, tail); published[tail] = true; check_certificates(tail) }
#endif
	:: d_step { settled != seal && CERTIFIED(seal) -> settled = seal; complete = (SIZE(settled) == DEPTH) }
	od
}
#endif

init {
	atomic {
		byte me = 0;
		byte other;
		d_step {
			for (other : 2 .. BODIES-1) {
#ifdef ORIGIN_LIES
				published[other] = true;
#endif
				cosigned[other] = (1 << LYING_VOTERS) - 1
			}
			other = 0
		}
#ifndef ORIGIN_LIES
		run Origin(0);
#endif
		for (me : 1+LYING_VOTERS+SILENT_VOTERS .. N-1) {
			run Voter(me)
		}
		me = 0
	}
}

#ifdef FAULTS
ltl attested { <> complete }
#endif
