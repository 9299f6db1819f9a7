CREATE TABLE "infill"."coverage_samples" (
	"target" text NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	"missing" bigint DEFAULT 0 NOT NULL,
	"stale" bigint DEFAULT 0 NOT NULL,
	"unverified" bigint DEFAULT 0 NOT NULL,
	"quarantined" bigint DEFAULT 0 NOT NULL,
	"unembeddable" bigint DEFAULT 0 NOT NULL,
	"embedded" bigint DEFAULT 0 NOT NULL,
	"estimated" boolean DEFAULT false NOT NULL,
	CONSTRAINT "coverage_samples_target_at_pk" PRIMARY KEY("target","at")
);
