/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - the verbs of tools
 *
 * Whoever may use the socket may look. What changes something is for root and for the user that the
 * agent runs as.
 */
#include "agent.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "log.h"

static char *dump(json_t *json)
{
	char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;

	json_decref(json);
	return text;
}

static void answer_error(struct ra_agent *agent, struct ra_conn *conn, int status, const char *why)
{
	ra_conn_answer(agent, conn, dump(json_pack("{s:s}", "error", why)), status);
}

static char *answer_draining(const struct ra_agent *agent)
{
	return dump(json_pack("{s:b, s:i, s:i, s:s}", "draining", agent->draining,
			      "streams_on_ring", (int)ra_streams_on_ring(agent), "region_users",
			      (int)ra_removal_users(agent), "region",
			      coloc_reason_name(agent->region_reason)));
}

static bool may_change(const struct ra_conn *conn)
{
	return conn->uid == 0 || conn->uid == geteuid();
}

static void reload(struct ra_agent *agent, struct ra_conn *conn)
{
	char error[RA_CONF_ERROR_BYTES];
	const int rc = ra_reload(agent, error);

	if (rc < 0)
		answer_error(agent, conn, rc, error);
	else
		ra_conn_answer(
			agent, conn,
			dump(json_pack("{s:b, s:s}", "reloaded", 1, "config", agent->config_path)),
			0);
}

static void resume(struct ra_agent *agent, struct ra_conn *conn)
{
	char why[160];
	const int rc = ra_resume(agent);

	if (rc == 0) {
		ra_conn_answer(agent, conn, answer_draining(agent), 0);
		return;
	}
	snprintf(why, sizeof(why), "the region is not back (%s): still drained",
		 coloc_reason_text(agent->region_reason));
	answer_error(agent, conn, rc, why);
}

void ra_control(struct ra_agent *agent, struct ra_conn *conn, uint32_t verb)
{
	if (!ra_access_allowed(agent, conn->fd, conn->uid, conn->gid)) {
		answer_error(agent, conn, -EACCES, "the socket is for members of access.group");
		return;
	}
	if (verb >= COLOC_VERB_DRAIN && verb <= COLOC_VERB_RELOAD && !may_change(conn)) {
		answer_error(agent, conn, -EPERM, "only root and the agent's own user may do that");
		return;
	}
	switch (verb) {
	case COLOC_VERB_STATUS:
		ra_conn_answer(agent, conn, ra_answer_status(agent), 0);
		return;
	case COLOC_VERB_STREAMS:
		ra_conn_answer(agent, conn, ra_answer_streams(agent), 0);
		return;
	case COLOC_VERB_STATS:
		ra_conn_answer(agent, conn, ra_answer_stats(agent), 0);
		return;
	case COLOC_VERB_DRAIN:
		ra_log(SD_NOTICE, "draining, as user %u asked", (unsigned int)conn->uid);
		ra_drain(agent);
		ra_conn_answer(agent, conn, answer_draining(agent), 0);
		return;
	case COLOC_VERB_RESUME:
		ra_log(SD_NOTICE, "resumed, as user %u asked", (unsigned int)conn->uid);
		resume(agent, conn);
		return;
	case COLOC_VERB_RELOAD:
		reload(agent, conn);
		return;
	default:
		answer_error(agent, conn, -ENOSYS, "this agent does not know that verb");
	}
}
