ALTER TABLE "infill"."tenant_credentials" ADD COLUMN "api_key_header" text;--> statement-breakpoint
ALTER TABLE "infill"."tenant_credentials" ADD COLUMN "header_names" text[] DEFAULT '{}'::text[] NOT NULL;--> statement-breakpoint
ALTER TABLE "infill"."tenant_credentials" ADD COLUMN "model" text;