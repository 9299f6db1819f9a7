CREATE TABLE "infill"."budget_stops" (
	"tenant_id" text NOT NULL,
	"target" text NOT NULL,
	"since" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "budget_stops_tenant_id_target_pk" PRIMARY KEY("tenant_id","target")
);
--> statement-breakpoint
CREATE TABLE "infill"."tenant_budgets" (
	"tenant_id" text PRIMARY KEY NOT NULL,
	"max_tokens" bigint,
	"max_cost_usd" double precision,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "tenant_budgets_cap" CHECK (max_tokens IS NOT NULL OR max_cost_usd IS NOT NULL)
);
--> statement-breakpoint
CREATE TABLE "infill"."usage_ledger" (
	"tenant_id" text NOT NULL,
	"target" text NOT NULL,
	"month" date NOT NULL,
	"requests" bigint DEFAULT 0 NOT NULL,
	"tokens" bigint DEFAULT 0 NOT NULL,
	"cost_usd" double precision,
	"rows" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "usage_ledger_tenant_id_target_month_pk" PRIMARY KEY("tenant_id","target","month")
);
--> statement-breakpoint
CREATE INDEX "usage_ledger_month" ON "infill"."usage_ledger" USING btree ("month","tenant_id","target");