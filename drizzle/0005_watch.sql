CREATE TABLE "infill"."watches" (
	"target" text PRIMARY KEY NOT NULL,
	"next_at" timestamp with time zone DEFAULT now() NOT NULL,
	"checked_at" timestamp with time zone,
	"found_at" timestamp with time zone,
	"gap_since" timestamp with time zone,
	"run_id" uuid,
	"fruitless" integer DEFAULT 0 NOT NULL,
	"stuck_tenants" text[] DEFAULT '{}'::text[] NOT NULL,
	"retry_at" timestamp with time zone
);
--> statement-breakpoint
CREATE INDEX "runs_watch" ON "infill"."runs" USING btree ("target","created_at" DESC NULLS LAST) WHERE origin = 'watch';