/* With -DCALLS the verifier prints each call of a script once, with the state of the server before
 * and after it: `conformance.py` reads it. A line is numbers: the call, the state, its answer and
 * the ticket whose bell it has rung, the state after.
 */
static unsigned long long known_calls[1 << 22];
static char line_[512];
static int length_;
static unsigned char bells_before[TICKETS];

static void put(int word) { length_ += sprintf(line_ + length_, "%d ", word); }

static void put_server(void) {
    int i;
    put(now.counter); put(now.known); put(now.fence); put(now.number); put(now.lease);
    put(now.fresh); put(now.serving); put(now.heard); put(now.grace); put(now.judged);
    for (i = 0; i < TICKETS; i++) put(now.queue[i]);
    for (i = 0; i < PROCESSES; i++) put(now.alive[i]);
}

static void before_call(int script, int ticket, int word) {
    int i;
    length_ = 0;
    put(script); put(ticket); put(word); put(now.top);
    put_server();
    for (i = 0; i < TICKETS; i++) bells_before[i] = now.bell[i];
}

static void after_call(void) {
    unsigned long long hash = 1469598103934665603ULL, i;
    int rung = 102;  /* NONE */
    for (i = 0; i < TICKETS; i++) if (now.bell[i] != bells_before[i]) rung = i;
    put(r_kind); put(r_number); put(r_fence); put(r_left); put(r_ticket); put(r_missing); put(rung);
    put_server();
    for (i = 0; line_[i]; i++) hash = (hash ^ (unsigned char) line_[i]) * 1099511628211ULL;
    for (i = hash & ((1 << 22) - 1); known_calls[i]; i = (i + 1) & ((1 << 22) - 1))
        if (known_calls[i] == hash) return;
    known_calls[i] = hash;
    printf("CALL %s\n", line_);
}
