CREATE SCHEMA IF NOT EXISTS "infill";
--> statement-breakpoint
CREATE TABLE "infill"."audit_events" (
	"event_id" bigserial PRIMARY KEY NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	"actor" text NOT NULL,
	"action" text NOT NULL,
	"run_id" uuid,
	"subject" text,
	"details" jsonb,
	"deliver_at" timestamp with time zone,
	"delivery_attempts" integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "infill"."leases" (
	"name" text PRIMARY KEY NOT NULL,
	"holder" text NOT NULL,
	"held_until" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "infill"."quarantined_rows" (
	"target" text NOT NULL,
	"row_id" text NOT NULL,
	"tenant_id" text NOT NULL,
	"text_hash" text NOT NULL,
	"model" text NOT NULL,
	"code" text NOT NULL,
	"message" text,
	"run_id" uuid,
	"quarantined_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "quarantined_rows_target_row_id_pk" PRIMARY KEY("target","row_id")
);
--> statement-breakpoint
CREATE TABLE "infill"."run_batches" (
	"run_id" uuid NOT NULL,
	"tenant_id" text NOT NULL,
	"generation" integer NOT NULL,
	"sequence" integer NOT NULL,
	"after_id" text,
	"through_id" text NOT NULL,
	"requests" bigint DEFAULT 0 NOT NULL,
	"tokens" bigint DEFAULT 0 NOT NULL,
	"embedded_ids" text[] DEFAULT '{}'::text[] NOT NULL,
	"superseded_ids" text[] DEFAULT '{}'::text[] NOT NULL,
	"gone_ids" text[] DEFAULT '{}'::text[] NOT NULL,
	"quarantined_ids" text[] DEFAULT '{}'::text[] NOT NULL,
	"quarantined_codes" text[] DEFAULT '{}'::text[] NOT NULL,
	"failed_ids" text[] DEFAULT '{}'::text[] NOT NULL,
	"truncated_ids" text[] DEFAULT '{}'::text[] NOT NULL,
	"last_part" uuid,
	"reason" text,
	"ended_at" timestamp with time zone,
	CONSTRAINT "run_batches_run_id_tenant_id_generation_sequence_pk" PRIMARY KEY("run_id","tenant_id","generation","sequence")
);
--> statement-breakpoint
CREATE TABLE "infill"."run_tenants" (
	"run_id" uuid NOT NULL,
	"tenant_id" text NOT NULL,
	"status" text DEFAULT 'queued' NOT NULL,
	"reason" text,
	"generation" integer DEFAULT 1 NOT NULL,
	"pass" integer DEFAULT 1 NOT NULL,
	"cursor" text,
	"pass_end" text,
	"allowance" bigint,
	"admitted" integer DEFAULT 0 NOT NULL,
	"ended" integer DEFAULT 0 NOT NULL,
	"planned" bigint DEFAULT 0 NOT NULL,
	"embedded" bigint DEFAULT 0 NOT NULL,
	"superseded" bigint DEFAULT 0 NOT NULL,
	"gone" bigint DEFAULT 0 NOT NULL,
	"quarantined" bigint DEFAULT 0 NOT NULL,
	"failed" bigint DEFAULT 0 NOT NULL,
	"remaining" bigint,
	"hold_reason" text,
	"requests" bigint DEFAULT 0 NOT NULL,
	"tokens" bigint DEFAULT 0 NOT NULL,
	"cost_usd" double precision,
	"settled_at" timestamp with time zone,
	CONSTRAINT "run_tenants_run_id_tenant_id_pk" PRIMARY KEY("run_id","tenant_id")
);
--> statement-breakpoint
CREATE TABLE "infill"."runs" (
	"run_id" uuid PRIMARY KEY NOT NULL,
	"target" text NOT NULL,
	"status" text NOT NULL,
	"reason" text,
	"generation" integer DEFAULT 1 NOT NULL,
	"dry_run" boolean NOT NULL,
	"batch_size" integer NOT NULL,
	"row_limit" bigint,
	"tenant_ids" text[],
	"plan_tenant_ids" text[],
	"window" integer,
	"max_tokens" bigint,
	"max_cost_usd" double precision,
	"idempotency_key" text,
	"request_hash" text,
	"planned" bigint,
	"remaining" bigint,
	"coverage_before" jsonb,
	"coverage_after" jsonb,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"started_at" timestamp with time zone,
	"settled_at" timestamp with time zone,
	CONSTRAINT "runs_status" CHECK (status IN ('queued', 'running', 'pausing', 'paused', 'cancelling', 'succeeded', 'incomplete', 'cancelled', 'failed')),
	CONSTRAINT "runs_settled_at" CHECK ((settled_at IS NOT NULL) = (status IN ('succeeded', 'incomplete', 'cancelled', 'failed')))
);
--> statement-breakpoint
CREATE TABLE "infill"."switches" (
	"scope" text NOT NULL,
	"name" text DEFAULT '' NOT NULL,
	"reason" text,
	"actor" text NOT NULL,
	"since" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "switches_scope_name_pk" PRIMARY KEY("scope","name"),
	CONSTRAINT "switches_scope" CHECK (scope IN ('global', 'target', 'tenant'))
);
--> statement-breakpoint
CREATE TABLE "infill"."tenant_credentials" (
	"tenant_id" text PRIMARY KEY NOT NULL,
	"sealed_key" "bytea" NOT NULL,
	"fingerprint" text NOT NULL,
	"last4" text NOT NULL,
	"base_url" text,
	"organization" text,
	"requests_per_minute" integer,
	"tokens_per_minute" integer,
	"weight" double precision DEFAULT 1 NOT NULL,
	"status" text DEFAULT 'unchecked' NOT NULL,
	"status_reason" text,
	"status_since" timestamp with time zone DEFAULT now() NOT NULL,
	"checked_at" timestamp with time zone,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "tenant_credentials_weight" CHECK ("infill"."tenant_credentials"."weight" > 0)
);
--> statement-breakpoint
ALTER TABLE "infill"."run_tenants" ADD CONSTRAINT "run_tenants_run_id_runs_run_id_fk" FOREIGN KEY ("run_id") REFERENCES "infill"."runs"("run_id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "audit_events_run" ON "infill"."audit_events" USING btree ("run_id","event_id");--> statement-breakpoint
CREATE INDEX "audit_events_due" ON "infill"."audit_events" USING btree ("deliver_at") WHERE deliver_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "quarantined_rows_tenant" ON "infill"."quarantined_rows" USING btree ("target","tenant_id","row_id");--> statement-breakpoint
CREATE INDEX "run_tenants_unsettled" ON "infill"."run_tenants" USING btree ("run_id") WHERE status IN ('queued', 'running');--> statement-breakpoint
CREATE UNIQUE INDEX "runs_unsettled_target" ON "infill"."runs" USING btree ("target") WHERE status NOT IN ('succeeded', 'incomplete', 'cancelled', 'failed');--> statement-breakpoint
CREATE UNIQUE INDEX "runs_idempotency_key" ON "infill"."runs" USING btree ("idempotency_key");--> statement-breakpoint
CREATE INDEX "runs_newest" ON "infill"."runs" USING btree ("created_at" DESC NULLS LAST,"run_id" DESC NULLS LAST);