/* queue.c - a queue between two pipeline stages, bounded in bytes: a list under one lock. */
#include "base/queue.h"

#include <pthread.h>
#include <stdlib.h>

struct node {
	struct node *next;
	void *item;
	size_t bytes;
};

struct queue {
	pthread_mutex_t lock;		/* guards all below; never held across free_item */
	pthread_cond_t room, ready;
	struct node *head, **tail;
	size_t bytes, max_bytes;
	bool closed, aborted;
	void (*free_item)(void *);
};

int queue_new(size_t max_bytes, void (*free_item)(void *), struct queue **ret, struct err *e)
{
	struct queue *q = calloc(1, sizeof(*q));

	if (!q)
		return err_set(e, ERR_NOMEM, "no memory for a queue");
	pthread_mutex_init(&q->lock, NULL);	/* cannot fail with default attributes */
	pthread_cond_init(&q->room, NULL);
	pthread_cond_init(&q->ready, NULL);
	q->tail = &q->head;
	q->max_bytes = max_bytes;
	q->free_item = free_item;
	*ret = q;
	return 0;
}

static void free_nodes(struct queue *q, struct node *n)
{
	while (n) {
		struct node *next = n->next;

		q->free_item(n->item);
		free(n);
		n = next;
	}
}

/* Takes the whole list out; the lock is held. */
static struct node *detach_all(struct queue *q)
{
	struct node *n = STEAL(q->head);

	q->tail = &q->head;
	q->bytes = 0;
	return n;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	free_nodes(q, detach_all(q));
	pthread_cond_destroy(&q->ready);
	pthread_cond_destroy(&q->room);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

static bool has_room(const struct queue *q, size_t bytes)
{
	return !q->head || (q->bytes <= q->max_bytes && bytes <= q->max_bytes - q->bytes);
}

bool queue_push(struct queue *q, void *item, size_t bytes)
{
	struct node *n = malloc(sizeof(*n));
	bool ok = false;

	pthread_mutex_lock(&q->lock);
	while (n && !q->closed && !q->aborted && !has_room(q, bytes))
		pthread_cond_wait(&q->room, &q->lock);
	if (!n) {
		q->aborted = true;	/* out of memory: an item is lost, so the stream must not look complete */
		pthread_cond_broadcast(&q->room);
		pthread_cond_broadcast(&q->ready);
	} else if (!q->closed && !q->aborted) {
		*n = (struct node){ .item = item, .bytes = bytes };
		*q->tail = n;
		q->tail = &n->next;
		q->bytes += bytes;
		pthread_cond_signal(&q->ready);
		ok = true;
	}
	pthread_mutex_unlock(&q->lock);
	if (!ok) {
		free(n);
		q->free_item(item);
	}
	return ok;
}

void *queue_pop(struct queue *q)
{
	struct node *n = NULL;
	void *item = NULL;

	pthread_mutex_lock(&q->lock);
	while (!q->head && !q->closed && !q->aborted)
		pthread_cond_wait(&q->ready, &q->lock);
	if (q->head && !q->aborted) {
		n = q->head;
		q->head = n->next;
		if (!q->head)
			q->tail = &q->head;
		q->bytes -= n->bytes;
		item = n->item;
		pthread_cond_broadcast(&q->room);	/* pushers wait for different amounts */
	}
	pthread_mutex_unlock(&q->lock);
	free(n);
	return item;
}

void queue_close(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->room);
	pthread_cond_broadcast(&q->ready);
	pthread_mutex_unlock(&q->lock);
}

void queue_abort(struct queue *q)
{
	struct node *n;

	pthread_mutex_lock(&q->lock);
	q->aborted = true;
	n = detach_all(q);
	pthread_cond_broadcast(&q->room);
	pthread_cond_broadcast(&q->ready);
	pthread_mutex_unlock(&q->lock);
	free_nodes(q, n);
}
