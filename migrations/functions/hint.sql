-- hint_v1: wake whoever listens to a channel. Not when the notification queue fills up: a full one would make every
-- commit fail. Returns whether it did.
CREATE OR REPLACE FUNCTION tasker.hint_v1(p_channel text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify(p_channel, '');
        RETURN true;
    END IF;
    RETURN false;
END;
$$;

-- hint_watchers_v1: tell open streams that this transaction moves something they may show.
CREATE OR REPLACE FUNCTION tasker.hint_watchers_v1(p_steps_only boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF EXISTS (SELECT FROM tasker.watchers w
               WHERE w.expires_at > clock_timestamp() AND (w.steps OR NOT p_steps_only)) THEN
        RETURN tasker.hint_v1('tasker_transitions');
    END IF;
    RETURN false;
END;
$$;
