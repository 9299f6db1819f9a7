CREATE TABLE "infill"."installation" (
	"only" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"installation_id" uuid DEFAULT gen_random_uuid() NOT NULL,
	CONSTRAINT "installation_only" CHECK ("infill"."installation"."only")
);
--> statement-breakpoint
INSERT INTO "infill"."installation" DEFAULT VALUES;
