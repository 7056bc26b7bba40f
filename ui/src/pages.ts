/** Every page and its address; each is fetched when it is first opened. */
import type { Component } from "svelte";
import type { Route } from "./router.ts";

// A page takes the parameters of its address as props.
export type Load = () => Promise<{ default: Component<any> }>;

export const routes: readonly Route<Load>[] = [
  { pattern: "/", page: () => import("./pages/monitoring/Ward.svelte") },
  { pattern: "/alerts", page: () => import("./pages/monitoring/Alerts.svelte") },
  { pattern: "/alerts/:id", page: () => import("./pages/monitoring/Alert.svelte") },
  { pattern: "/models", page: () => import("./pages/registry/Models.svelte") },
  { pattern: "/models/:name", page: () => import("./pages/registry/Model.svelte") },
  { pattern: "/models/:name/versions", page: () => import("./pages/registry/Versions.svelte") },
  { pattern: "/models/:name/versions/:version", page: () => import("./pages/registry/Version.svelte") },
  { pattern: "/runs", page: () => import("./pages/tracking/Runs.svelte") },
  { pattern: "/runs/:id", page: () => import("./pages/tracking/Run.svelte") },
  { pattern: "/pipelines", page: () => import("./pages/pipelines/Pipelines.svelte") },
  { pattern: "/pipelines/:name", page: () => import("./pages/pipelines/Pipeline.svelte") },
  { pattern: "/pipeline-runs/:id", page: () => import("./pages/pipelines/PipelineRun.svelte") },
  { pattern: "/retraining", page: () => import("./pages/retraining/Retrainings.svelte") },
  { pattern: "/retraining/:id", page: () => import("./pages/retraining/Retraining.svelte") },
  { pattern: "/endpoints", page: () => import("./pages/serving/Endpoints.svelte") },
  { pattern: "/endpoints/:name", page: () => import("./pages/serving/Endpoint.svelte") },
  { pattern: "/rollouts/:id", page: () => import("./pages/serving/Rollout.svelte") },
  { pattern: "/datasets", page: () => import("./pages/data/Datasets.svelte") },
  { pattern: "/datasets/:name", page: () => import("./pages/data/Dataset.svelte") },
  { pattern: "/datasets/:name/versions/:version", page: () => import("./pages/data/Dataset.svelte") },
  { pattern: "/features/:name", page: () => import("./pages/data/FeatureView.svelte") },
  { pattern: "/ledger", page: () => import("./pages/ledger/Ledger.svelte") },
];
