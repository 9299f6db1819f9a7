CREATE TABLE "infill"."run_requests" (
	"request_id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"target" text NOT NULL,
	"tenant_id" text,
	"requested_by" text NOT NULL,
	"requested_at" timestamp with time zone DEFAULT now() NOT NULL,
	"status" text DEFAULT 'waiting' NOT NULL,
	"reason" text,
	"is_final" boolean DEFAULT false NOT NULL,
	"run_id" uuid,
	"handled_at" timestamp with time zone
);
--> statement-breakpoint
ALTER TABLE "infill"."runs" ADD COLUMN "origin" text DEFAULT 'api' NOT NULL;--> statement-breakpoint
CREATE INDEX "run_requests_open" ON "infill"."run_requests" USING btree ("target","requested_at") WHERE status <> 'started';--> statement-breakpoint
-- Runs with the rights of its owner, so that whoever may call it needs none on the table. The path is fixed: what it names is found
-- in the schemas it names, whatever the caller's path says.
CREATE FUNCTION "infill"."request_backfill"("target" text, "tenant_id" text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  request uuid;
BEGIN
  IF request_backfill.target IS NULL OR request_backfill.target !~ '[^[:space:]]' THEN
    RAISE EXCEPTION 'infill.request_backfill expects the name of a target, as targets.json has it'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF length(request_backfill.target) > 100 OR length(request_backfill.tenant_id) > 200 THEN
    RAISE EXCEPTION 'infill.request_backfill expects a target of at most 100 characters and a tenant of at most 200'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO infill.run_requests (target, tenant_id, requested_by)
  VALUES (request_backfill.target, request_backfill.tenant_id, session_user)
  RETURNING run_requests.request_id INTO request;
  RETURN request;
END
$$;
--> statement-breakpoint
COMMENT ON FUNCTION "infill"."request_backfill"(text, text) IS 'Asks for a run of a target, when and only if the transaction commits. Returns the id of the request, a row of infill.run_requests.';
--> statement-breakpoint
-- A run spends money: who may ask for one is for the operator to say.
REVOKE ALL ON FUNCTION "infill"."request_backfill"(text, text) FROM PUBLIC;
