import { mount } from "svelte";
import "./tokens.css";
import "./base.css";
import App from "./App.svelte";
import { connect } from "./api/live.svelte.ts";
import { followLinks } from "./navigation.svelte.ts";

const target = document.getElementById("app");
if (!target) throw new Error("index.html has no #app");
followLinks();
mount(App, { target });
void connect();
